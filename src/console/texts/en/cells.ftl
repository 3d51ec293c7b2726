menu-cells = Cells
cell-adaptive = Lower the limit while the cell is crowded
cell-admitted = Admitted so far
cell-ask-change = Change the rules of cell { $cell }?
cell-ask-close = Close cell { $cell }?
cell-ask-open = Open cell { $cell }?
cell-bytes = { $down } B down, { $up } B up;
cell-change = Change the rules
cell-change-of = Rules of cell { $cell }
cell-close = Close
cell-closed-notice = Until further notice.
cell-closed-since = Closed since { $time }.
cell-closed-until = Until { $time }.
cell-concerns = { $active } devices upgrade in it now, and { $waiting } wait.
cell-devices = Devices that reported this cell last
cell-failures-are = { $percent } % failed ({ $count })
cell-holders = Who upgrades now
cell-last-admitted = Last admitted
cell-is-closed = Closed: { $reason }
cell-limit = Own limit
cell-limit-changes = That changes
cell-limit-is = Up to { $limit } at once
cell-limit-max = Highest limit
cell-limit-none = None: coverage alone counts
cell-limit-now = Limit now
cell-limit-unknown = No limit yet
cell-limits = How its limit changed
cell-load-is = { $active } upgrade, { $waiting } wait
cell-means-close = Nobody is admitted there meanwhile. Downloads that run go on. Those who wait are told the reason.
cell-means-limit = At most { $limit } devices may upgrade in it at once. Coverage may allow fewer.
cell-means-no-limit = It has no limit of its own from then on: coverage alone counts.
cell-means-open = Devices are admitted again, whoever has closed it.
cell-named = Cell { $cell }
cell-nobody = Nobody upgrades in it now.
cell-nothing = No device has upgraded or waited there, and it has no rules.
cell-open = Open
cell-peak = Most at once
cell-per-kib = Time for a KiB
cell-rules = Rules
cell-series = Seven days
cell-series-none = No device upgraded or waited there in the last seven days.
cell-state = State
cell-through = All who wait are through, at the earliest
cell-traffic = Traffic of upgrades
cell-limited-by-coverage = coverage
cell-limited-by-own-limit = its own limit
cell-limited-by-busy-hours = busy hours
cell-limited-by-closed = closed by the operator
cell-limited-by-outage = out of order
cell-limited-by-crowded = crowded
cells-by = What the map shows
cells-by-load = Load
cells-by-limit = Limit
cells-by-failures = Failures
cells-by-closed = Closed
cells-by-list = List
cells-heat-heat-0 = Nothing
cells-heat-heat-1 = Little
cells-heat-heat-2 = Much
cells-heat-heat-3 = Very much
cells-import = Import rules
cells-import-do = Import
cells-import-hint = An empty field leaves things as they are, - takes a rule away. Whoever closes a cell gives the reason in the same row. Nothing is changed when a row is wrong.
cells-lines = Numbers of cells, with blanks or commas between them
cells-none = No device has upgraded or waited in any cell yet.
outage = Report an outage
outage-ask = { $count ->
    [one] Tell that one cell is out of order?
   *[other] Tell that { $count } cells are out of order?
  }
outage-ask-over = { $count ->
    [one] Tell that one cell works again?
   *[other] Tell that { $count } cells work again?
  }
outage-means-over = Devices are admitted there again. Cells that an operator has closed stay closed.
outage-over = They work again
outage-tell = Tell it
done-cell-changed = The rules are changed.
done-cell-closed = The cell is closed.
done-cell-opened = The cell is open.
cells-imported = { $count ->
    [one] The row is taken.
   *[other] { $told } rows are taken.
}
done-outage-told = It is told.
