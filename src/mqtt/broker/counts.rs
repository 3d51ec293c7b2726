macro_rules! counts {
    ($($name:ident: $help:literal,)*) => {
        /// What has been counted of the broker since the start. Each field becomes a metric of its name.
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
    mqtt_broker_connections: "Connections to the MQTT broker.",
    mqtt_broker_connections_lost: "Connections to the MQTT broker that have ended.",
    mqtt_broker_messages_received: "Messages received from the MQTT broker, whatever became of them.",
    mqtt_broker_messages_taken: "Messages of devices received from the MQTT broker.",
    mqtt_broker_messages_unknown_device: "Messages from the MQTT broker dropped because their topic names no device that is known.",
    mqtt_broker_messages_foreign: "Messages from the MQTT broker dropped because their topic is no device's, or one of another kind.",
    mqtt_broker_messages_retained: "Messages from the MQTT broker dropped because it had retained them: nobody knows how old they are.",
    mqtt_broker_messages_too_large: "Messages from the MQTT broker dropped because they are longer than what is read.",
    mqtt_broker_messages_too_many: "Messages from the MQTT broker dropped because a device sends too many.",
    mqtt_broker_messages_sent: "Messages published to devices by the MQTT broker.",
    mqtt_broker_messages_unsent: "Messages to devices that could not be given to the MQTT broker.",
    mqtt_broker_messages_refused: "Messages to devices that the MQTT broker has not taken, as it says in MQTT 5.",
    mqtt_broker_messages_stuck: "Connections to the MQTT broker that were ended because a message was not settled for five minutes while later ones were.",
    mqtt_broker_subscriptions_granted: "Subscriptions that the MQTT broker has granted.",
    mqtt_broker_subscriptions_refused: "Subscriptions that the MQTT broker has refused.",
}
