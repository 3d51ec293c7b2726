//! What the transfers by the standard's own objects (5, 9 and 33629) have in common.

/// What happens to a transfer by one of the standard's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectInput {
    /// Some of the package was served to the device.
    Fetched {
        /// More of it, from its beginning without a gap, than ever before in this attempt.
        further: bool,
    },
    /// All of the package was served to it.
    FetchedAll,
}
