use pcp::ResultCode;

/// A message that is repeated until it is answered. What it says in detail is read off the state when it
/// is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uplink {
    Version,
    Segment,
    DownloadReport(ResultCode),
    UpgradeReport(ResultCode),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub(super) uplink: Uplink,
    pub(super) repeats_left: u8,
}
