use super::{event::Ending, identity::Refusal};

macro_rules! counts {
    ($($name:ident: $help:literal,)*) => {
        /// What the MQTT side has counted since it started. Each field becomes a metric of its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counts {
            $(#[doc = $help] pub $name: u64,)*
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
    mqtt_messages_too_large: "Messages of devices about upgrades that are longer than what is read; acknowledged and dropped.",
    mqtt_messages_foreign: "Messages dropped because their topic is another device's.",
    mqtt_messages_too_many: "Messages with QoS 0 dropped because a device sends too many.",
    mqtt_subscriptions_granted: "Topic filters granted.",
    mqtt_subscriptions_refused: "Topic filters refused: another device's, shared or malformed.",
    mqtt_messages_sent: "Messages published to devices.",
    mqtt_messages_delivered: "Messages to devices that they have acknowledged.",
    mqtt_messages_unsent: "Messages to devices that could not be sent: not connected, too many on the way, or too large.",
    mqtt_refused_unknown_device: "CONNECTs refused: nobody has added such a device.",
    mqtt_refused_wrong_credential: "CONNECTs refused: the password or the certificate is not the device's.",
    mqtt_refused_stale_stamp: "CONNECTs refused: the stamp in the client ID is more than an hour off.",
    mqtt_refused_client_id: "CONNECTs refused: the client ID is not made as the device's kind makes it.",
    mqtt_refused_take_over_pace: "CONNECTs refused: the device has connected a moment before, as if two had one identity.",
    mqtt_refused_pace: "CONNECTs refused: too many connect, or fail to, from their address or altogether.",
    mqtt_refused_full: "Connections refused: as many are there as may be.",
    mqtt_refused_slow: "Connections closed: CONNECT did not come in time.",
    mqtt_refused_malformed: "Connections closed: what came first was no CONNECT of a version that is spoken.",
    mqtt_ended_goodbye: "Connections of devices that the device has ended with DISCONNECT.",
    mqtt_ended_lost: "Connections of devices that the device or the network has closed.",
    mqtt_ended_keep_alive: "Connections of devices ended because nothing came for 1.5 keep-alives.",
    mqtt_ended_protocol: "Connections of devices ended because they sent what MQTT does not allow.",
    mqtt_ended_slow: "Connections of devices ended because a packet that they began did not come in time, or took the most room of all.",
    mqtt_ended_backlog: "Connections of devices ended because they do not take what is sent to them.",
    mqtt_ended_taken_over: "Connections of devices ended because the device has connected anew.",
    mqtt_ended_credentials: "Connections of devices ended because their credentials, or the device, were changed or removed.",
    mqtt_ended_stopping: "Connections of devices ended because the server stops.",
}

impl Counts {
    pub(super) const fn refused(&mut self, refusal: Refusal) {
        *match refusal {
            Refusal::UnknownDevice => &mut self.mqtt_refused_unknown_device,
            Refusal::WrongCredential => &mut self.mqtt_refused_wrong_credential,
            Refusal::StaleStamp => &mut self.mqtt_refused_stale_stamp,
            Refusal::ClientId => &mut self.mqtt_refused_client_id,
            Refusal::TakeOverPace => &mut self.mqtt_refused_take_over_pace,
            Refusal::Pace => &mut self.mqtt_refused_pace,
            Refusal::Full => &mut self.mqtt_refused_full,
            Refusal::Slow => &mut self.mqtt_refused_slow,
            Refusal::Malformed => &mut self.mqtt_refused_malformed,
        } += 1;
    }

    pub(super) const fn ended(&mut self, ending: Ending) {
        *match ending {
            Ending::Goodbye => &mut self.mqtt_ended_goodbye,
            Ending::Lost => &mut self.mqtt_ended_lost,
            Ending::KeepAlive => &mut self.mqtt_ended_keep_alive,
            Ending::Protocol => &mut self.mqtt_ended_protocol,
            Ending::Slow => &mut self.mqtt_ended_slow,
            Ending::Backlog => &mut self.mqtt_ended_backlog,
            Ending::TakenOver => &mut self.mqtt_ended_taken_over,
            Ending::Credentials => &mut self.mqtt_ended_credentials,
            Ending::Stopping => &mut self.mqtt_ended_stopping,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted under that name.
    fn of(counts: &Counts, kind: &str, name: &str) -> u64 {
        let name = format!("mqtt_{kind}_{name}");
        let mut found = counts.each().filter(|(it, ..)| *it == name);
        found.next().unwrap().2
    }

    #[test]
    fn each_reason_has_its_own_count() {
        let mut counts = Counts::default();
        for (times, refusal) in (1..).zip(Refusal::ALL) {
            for _ in 0..times {
                counts.refused(refusal);
            }
        }
        for (times, ending) in (1..).zip(Ending::ALL) {
            for _ in 0..times {
                counts.ended(ending);
            }
        }
        for (times, refusal) in (1..).zip(Refusal::ALL) {
            assert_eq!(of(&counts, "refused", refusal.name()), times);
        }
        for (times, ending) in (1..).zip(Ending::ALL) {
            assert_eq!(of(&counts, "ended", ending.name()), times);
        }
    }
}
