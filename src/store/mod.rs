//! What survives a restart: the trait, and its SQLite implementation.

use std::sync::Arc;

use async_trait::async_trait;
use pcp::Version;
use serde::Serialize;

use crate::{
    clock::UtcMillis,
    engine::{ActiveUpgrade, Change, DeviceRecord, UpgradeOrder},
    package::CheckCodeKind,
    task::{Candidate, PackageId, RetryPolicy, TaskId, TaskState, UpgradeId},
};
