/// Where upgrades compete: so many go on in a lane at the same time. A device's limit tells how many may, itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A cell of the radio network, by its ID (LwM2M object 4, resource 8).
    Cell(u32),
}
