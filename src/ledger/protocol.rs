use serde::{Deserialize, Serialize};

/// What a device speaks, and how it is upgraded.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// LwM2M over CoAP, and PCP in it.
    #[default]
    Lwm2m,
    /// MQTT as devices of Huawei IoTDA speak it: `$oc/devices/{id}/sys/events/…`.
    Iotda,
    /// MQTT as devices of `ThingsPanel` speak it: `ota/…`.
    ThingsPanel,
    /// MQTT as devices with `QuecThing` speak it (Quectel's Acceleronix): frames on `q/2/d/{id}/ota`.
    QuecThing,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Lwm2m, Self::Iotda, Self::ThingsPanel, Self::QuecThing];

    /// The name used in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lwm2m => "lwm2m",
            Self::Iotda => "iotda",
            Self::ThingsPanel => "thingspanel",
            Self::QuecThing => "quecthing",
        }
    }

    /// The protocol of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Whether its devices connect over MQTT, and fetch packages over HTTP.
    pub const fn is_mqtt(self) -> bool {
        matches!(self, Self::Iotda | Self::ThingsPanel | Self::QuecThing)
    }

    /// Whether its devices cannot be asked what they run: they tell it by themselves, when they have connected, or never.
    pub const fn tells_by_itself(self) -> bool {
        matches!(self, Self::ThingsPanel | Self::QuecThing)
    }
}
