//! The devices' sessions: datagrams and commands in, effects out, in order. Pure.

mod change;

pub use change::{
    ActiveUpgrade, Change, CoverageReading, DeviceRecord, QueueMode, Registration, StageChange,
    UpgradeOrder,
};
