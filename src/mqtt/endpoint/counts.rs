use super::{event::Ending, identity::Refusal};

macro_rules! counts {
    ($($name:ident: $help:literal,)*) => {
        /// What the MQTT side has counted since it started. Each field becomes a metric of its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counts {
            $(#[doc = $help] pub $name: u64,)*
            refused: [u64; Refusal::ALL.len()],
            ended: [u64; Ending::ALL.len()],
        }

        impl Counts {
            /// Every counter: its name without prefix and suffix, its help text, its value.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $help, self.$name),)*].into_iter()
            }
        }
    };
}

counts! {
    mqtt_connections_accepted: "Network connections accepted.",
    mqtt_connects_accepted: "CONNECTs of devices that have shown who they are.",
    mqtt_take_overs: "Connections that another one of the same device has replaced.",
    mqtt_packets_received: "Packets received, whatever became of them.",
    mqtt_messages_received: "Messages of devices about upgrades.",
    mqtt_messages_unrelated: "Messages of devices on their own topics that have nothing to do with upgrades; acknowledged and dropped.",
    mqtt_messages_foreign: "Messages dropped because their topic is another device's.",
    mqtt_messages_too_many: "Messages with QoS 0 dropped because a device sends too many.",
    mqtt_subscriptions_granted: "Topic filters granted.",
    mqtt_subscriptions_refused: "Topic filters refused: another device's, shared or malformed.",
    mqtt_messages_sent: "Messages published to devices.",
    mqtt_messages_delivered: "Messages to devices that they have acknowledged.",
    mqtt_messages_unsent: "Messages to devices that could not be sent: not connected, too many on the way, or too large.",
}

impl Counts {
    pub(super) fn refused(&mut self, refusal: Refusal) {
        if let Some(count) = self.refused.get_mut(refusal as usize) {
            *count += 1;
        }
    }

    pub(super) fn ended(&mut self, ending: Ending) {
        if let Some(count) = self.ended.get_mut(ending as usize) {
            *count += 1;
        }
    }

    /// How many were not let in, by the reason.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.refused)
    }

    /// How many connections of devices have ended, by the reason.
    pub fn endings(&self) -> impl Iterator<Item = (Ending, u64)> {
        Ending::ALL.into_iter().zip(self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let mut counts = Counts::default();
        for refusal in Refusal::ALL {
            counts.refused(refusal);
        }
        counts.refused(Refusal::Slow);
        for ending in Ending::ALL {
            counts.ended(ending);
        }
        counts.ended(Ending::Lost);
        assert!((counts.refusals()).all(|(it, n)| n == if it == Refusal::Slow { 2 } else { 1 }));
        assert!((counts.endings()).all(|(it, n)| n == if it == Ending::Lost { 2 } else { 1 }));
    }
}
