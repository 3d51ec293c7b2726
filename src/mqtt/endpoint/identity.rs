//! Who a device is, and how it shows that.
//!
//! * **Device secret** (Huawei IoTDA, "Device connection authentication"): client ID `{device}_0_{0|1}_{YYYYMMDDHH}`, user name
//!   the device's ID, password the HMAC-SHA256 of the secret under the hour stamp as key, in hexadecimal. Where the third part
//!   is 1 the stamp is compared with the clock.
//! * **Access token** (ThingsPanel): the token is the user name; a password only where the device was given one. The client ID
//!   is free.
//! * **Secret as password** (QuecThing, of which no public description says how its devices prove themselves): client ID the
//!   device's name, password its secret; the user name is free.
//! * **Certificate**: its subject's common name or one of its alternative names is the device's name.

use std::{fmt, ops::Range};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::{clock::UtcMillis, ledger::DeviceId};

/// Which kind of device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Style {
    /// Huawei IoTDA: `$oc/devices/{id}/sys/…`.
    Iotda,
    /// ThingsPanel, release 0.5 or 1.x: `ota/…`.
    ThingsPanel,
    /// QuecThing (Quectel's Acceleronix): `q/1/d/{id}/…` and `q/2/d/{id}/…`.
    QuecThing,
}

impl Style {
    /// A stable word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iotda => "iotda",
            Self::ThingsPanel => "thingspanel",
            Self::QuecThing => "quecthing",
        }
    }
}

/// A device that may connect.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// What stands for it.
    pub device: DeviceId,
    /// Its endpoint name: in topics the device ID of IoTDA, the device number of ThingsPanel, or the client ID of
    /// QuecThing.
    pub name: Box<str>,
    /// Which kind of device it is.
    pub style: Style,
    /// How it shows who it is.
    pub credential: Credential,
}

/// How a device shows who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// By a secret: one of IoTDA does not send it, one with QuecThing sends it as its password.
    Secret(Box<[u8]>),
    /// By a token that is its user name.
    Token {
        /// The user name.
        token: Box<str>,
        /// The password, where there is one.
        password: Option<Box<str>>,
    },
    /// By a certificate of a configured authority.
    Certificate,
}

impl Identity {
    /// The token in its topics.
    pub fn token(&self) -> Option<&str> {
        match &self.credential {
            Credential::Token { token, .. } => Some(token),
            Credential::Secret(_) | Credential::Certificate => None,
        }
    }
}

/// Never shows the credential.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.device, self.style.name())
    }
}

/// Never shows what it is.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret",
            Self::Token { .. } => "Token",
            Self::Certificate => "Certificate",
        })
    }
}

/// What a client says of itself in CONNECT, and by its certificate.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// The client ID; empty where the client leaves it to the server.
    pub client_id: Box<str>,
    /// The user name.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<Box<[u8]>>,
    /// The names in the certificate that the client has shown: the subject's common name and the alternative names.
    pub certified: Box<[Box<str>]>,
}

impl Claim {
    /// What the client is called: by its user name, or else by its client ID.
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or(&self.client_id)
    }
}

/// Never shows the password, nor a user name, which may be a token.
impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f.debug_struct("Claim"))
            .field("client_id", &self.client_id)
            .field("certified", &self.certified)
            .finish_non_exhaustive()
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Nobody has added such a device.
    UnknownDevice,
    /// The password, or the certificate, is not the device's.
    WrongCredential,
    /// The stamp in the client ID is more than an hour away from the server's clock.
    StaleStamp,
    /// The client ID is not made as the device's kind makes it.
    ClientId,
    /// The device has connected so lately that it looks as if two of them had one identity.
    TakeOverPace,
    /// Too many connect, or fail to, from that address or altogether.
    Pace,
    /// As many are connected as may be.
    Full,
    /// CONNECT did not come in time.
    Slow,
    /// What was sent is no CONNECT, or not one of a version that is spoken.
    Malformed,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::UnknownDevice,
        Self::WrongCredential,
        Self::StaleStamp,
        Self::ClientId,
        Self::TakeOverPace,
        Self::Pace,
        Self::Full,
        Self::Slow,
        Self::Malformed,
    ];

    /// A stable word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownDevice => "unknown_device",
            Self::WrongCredential => "wrong_credential",
            Self::StaleStamp => "stale_stamp",
            Self::ClientId => "client_id",
            Self::TakeOverPace => "take_over_pace",
            Self::Pace => "pace",
            Self::Full => "full",
            Self::Slow => "slow",
            Self::Malformed => "malformed",
        }
    }

    /// Whether the credentials are what is wrong, so that it counts as an attempt to guess them.
    pub const fn is_of_credentials(self) -> bool {
        matches!(
            self,
            Self::UnknownDevice | Self::WrongCredential | Self::StaleStamp | Self::ClientId
        )
    }
}

impl Identity {
    /// Whether the client has shown to be this device, at `now` by the wall clock.
    ///
    /// Passwords and tokens are compared in constant time.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, claim: &Claim, now: UtcMillis) -> Result<(), Refusal> {
        match &self.credential {
            Credential::Secret(secret) if self.style == Style::QuecThing => {
                self.verify_password(secret, claim)
            }
            Credential::Secret(secret) => self.verify_secret(secret, claim, now),
            Credential::Token { token, password } => {
                let user = claim.user.as_deref().unwrap_or_default();
                let given = claim.password.as_deref().unwrap_or_default();
                let expected = password.as_deref().unwrap_or_default();
                // where none was set, a client may send what it likes: its token has said who it is
                let right = expected.is_empty() | bool::from(given.ct_eq(expected.as_bytes()));
                if right & bool::from(user.as_bytes().ct_eq(token.as_bytes())) {
                    Ok(())
                } else {
                    Err(Refusal::WrongCredential)
                }
            }
            Credential::Certificate => {
                if claim.certified.contains(&self.name) {
                    Ok(())
                } else {
                    Err(Refusal::WrongCredential)
                }
            }
        }
    }

    /// Its name is in the client ID, because that stands in its topics.
    fn verify_password(&self, secret: &[u8], claim: &Claim) -> Result<(), Refusal> {
        if claim.client_id != self.name {
            return Err(Refusal::ClientId);
        }
        let given = claim.password.as_deref().unwrap_or_default();
        if bool::from(given.ct_eq(secret)) {
            Ok(())
        } else {
            Err(Refusal::WrongCredential)
        }
    }

    fn verify_secret(&self, secret: &[u8], claim: &Claim, now: UtcMillis) -> Result<(), Refusal> {
        let rest = (claim.client_id)
            .strip_prefix(&*self.name)
            .and_then(|rest| rest.strip_prefix("_0_"))
            .ok_or(Refusal::ClientId)?;
        let (checked, stamp) = match rest.split_once('_') {
            Some(("0", stamp)) => (false, stamp),
            Some(("1", stamp)) => (true, stamp),
            _ => return Err(Refusal::ClientId),
        };
        let hour = hour_of(stamp).ok_or(Refusal::ClientId)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(stamp.as_bytes())
            .map_err(|_| Refusal::WrongCredential)?;
        mac.update(secret);
        let given = claim.password.as_deref().unwrap_or_default();
        let given = hex::decode(given).map_err(|_| Refusal::WrongCredential)?;
        mac.verify_slice(&given)
            .map_err(|_| Refusal::WrongCredential)?;
        // who has the secret may learn that its clock is wrong
        if checked && (now.0.div_euclid(HOUR_MS) - hour).abs() > 1 {
            return Err(Refusal::StaleStamp);
        }
        Ok(())
    }
}

const HOUR_MS: i64 = 3_600_000;

/// Hours since 1970 of a `YYYYMMDDHH` in UTC.
fn hour_of(stamp: &str) -> Option<i64> {
    if stamp.len() != 10 || !stamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |range: Range<usize>| stamp.get(range)?.parse::<i16>().ok();
    let small = |range: Range<usize>| i8::try_from(part(range)?).ok();
    let date = jiff::civil::Date::new(part(0..4)?, small(4..6)?, small(6..8)?).ok()?;
    let at = date.at(small(8..10).filter(|hour| *hour < 24)?, 0, 0, 0);
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(at.timestamp().as_second() / 3_600)
}

#[cfg(test)]
mod tests;
