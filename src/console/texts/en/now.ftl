now-needs = What needs somebody
now-needs-nothing = Nothing waits for a person.
need-approval = Approval
need-held = Held by failures
need-paused = Paused
need-closed = Cell closed
need-webhook = Webhook fails
need-unknown = Unknown devices
now-closed = Cell { $cell } is closed until further notice: { $reason }
now-closed-until = Cell { $cell } is closed until { $until }: { $reason }
now-closed-more = { $count ->
    [one] One more cell is closed.
   *[other] { $count } more cells are closed.
  }
now-unknown = { $count ->
    [one] One device was refused lately, because nobody has added it.
   *[other] { $count } devices were refused lately, because nobody has added them.
  }
now-webhook = { $url }: { $count ->
    [one] one delivery was given up.
   *[other] { $count } deliveries were given up.
  }
now-running = What runs
now-running-nothing = No task runs.
now-succeeded = { $count } upgraded
now-failed = { $count } failed
now-busy = { $count } upgrading now
now-pending = { $count } waiting
now-of = of { $count } devices
now-finish = Through by { $half } in half of all cases, by { $most } in nine of ten.
now-forecast-made = When it will be through is being computed.
now-scheduled = Begins later
begin = How to begin
begin-devices = Add devices
begin-package = Upload a software package
begin-task = Create an upgrade task
need-look = To be looked at
now-more-tasks = There are more than { $count } tasks that have not ended. Only the newest { $count } are looked at here.
now-webhooks-more = { $count ->
    [one] One more webhook fails.
   *[other] { $count } more webhooks fail.
  }
now-closed-many = More than { $count } more cells are closed.
stand-scheduled = it begins later
stand-running = it runs
stand-phase = a phase runs
stand-joining = it waits for devices that fit it
stand-window-closed = its window is closed
stand-over-budget = what is left does not fit the budget
stand-paused = it is paused
stand-approval = it waits for approval
stand-stopping = it is being stopped
stand-stopped = it was stopped
stand-finished = it is finished
