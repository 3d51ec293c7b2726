//! Who may do what, and to which devices.
//!
//! A [`Caller`] has [`Grant`]s. A grant is a [`Role`], on a tenant or on all ([`Tenants`]), for all devices or for those that a filter
//! lets through. [`OPERATIONS`] says of each operation which [`Permission`] it needs, and whether it keeps to the devices of its caller,
//! or to the tenants ([`Reach`]). [`Caller::admit`] puts both together: the operation is carried out within a [`Scope`], or not at all.
//!
//! What is not granted is refused. An operation that is missing from the table is refused to everybody, and one that does not
//! keep to devices, or to tenants, is refused to a caller whose grants are narrowed: nothing is open because somebody forgot it.

mod caller;
mod grant;
mod operation;
mod role;
mod scope;

#[cfg(test)]
mod tests;

pub use caller::{ADMIN_TOKEN, ANYBODY, Caller, CallerKind, Refusal};
pub use grant::{Grant, GrantError, MAX_GRANTS, Tenants, check_grants};
pub use operation::{OPERATIONS, Operation, Reach, Secrecy};
pub use role::{Permission, Role};
pub use scope::{Part, Scope};
