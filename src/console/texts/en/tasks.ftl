menu-tasks = Tasks
task-new = New task
tasks-none = There are no tasks yet.
task-name = Name
task-state = State
task-progress = Progress
task-done-of = { $done } of { $total } upgraded
task-ask-pause = Pause the task “{ $name }”?
task-means-pause = { $count ->
    [one] It is for one device. It begins no upgrade while the task is paused. Upgrades that run go on.
   *[other] It is for { $count } devices. No further upgrade begins while it is paused. Upgrades that run go on.
  }
task-do-pause = Pause the task
done-task-pause = The task is paused.
task-ask-resume = Resume the task “{ $name }”?
task-means-resume = { $count ->
    [one] It is for one device.
   *[other] It is for { $count } devices.
  }
task-do-resume = Resume the task
done-task-resume = The task goes on.
