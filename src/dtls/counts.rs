macro_rules! counts {
    ($($name:ident: $help:literal,)*) => {
        /// What the DTLS side has counted since it started. Each field becomes a metric of its name.
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
    dtls_datagrams_received: "Datagrams received on the secured port.",
    dtls_datagrams_malformed: "Datagrams that were no DTLS.",
    dtls_datagrams_unassociated: "Datagrams of peers without an association or a handshake.",
    dtls_datagrams_superfluous: "Handshake datagrams and alerts in the clear that were left alone: too many, too long or out of place.",
    dtls_cookies_sent: "Cookies handed out to strangers.",
    dtls_cookies_refused: "Strangers left unanswered because too many ask.",
    dtls_queue_full: "Handshake datagrams dropped because too many wait.",
    dtls_handshakes_started: "Handshakes begun after a valid cookie.",
    dtls_handshakes_refused: "Handshakes not begun despite a valid cookie, because too many begin.",
    dtls_handshakes_full: "Handshakes completed in full.",
    dtls_handshakes_resumed: "Handshakes that resumed a session.",
    dtls_handshakes_displaced_total: "Handshakes given up for a new one because too many were under way.",
    dtls_handshakes_displaced_source: "Handshakes given up for a new one because too many were under way with its source.",
    dtls_handshakes_unknown_identity: "Handshakes that failed: nobody has the identity.",
    dtls_handshakes_wrong_key: "Handshakes that failed: not the identity's key.",
    dtls_handshakes_expired: "Handshakes given up because the peer fell silent.",
    dtls_handshakes_failed: "Handshakes that failed otherwise: suites, certificates, malformed messages.",
    dtls_handshakes_replaced: "Handshakes given up for another one from the same address.",
    dtls_handshakes_ended: "Handshakes given up because their identity was ended.",
    dtls_flights_repeated: "Flights of handshakes sent again.",
    dtls_records_opened: "Records of application data received.",
    dtls_records_rejected: "Records of application data dropped: forged, damaged or repeated.",
    dtls_records_sealed: "Records of application data sent.",
    dtls_records_unproven: "Records of application data not sent: the peer has only just been heard from a new address.",
    dtls_associations_moved: "Associations found at another address by their Connection ID.",
    dtls_associations_detached: "Associations with a Connection ID whose address went to another peer.",
    dtls_associations_closed: "Associations closed by the peer.",
    dtls_associations_failed: "Associations that the record layer gave up.",
    dtls_associations_evicted: "Associations dropped to make room, the least recently used first.",
    dtls_associations_replaced: "Associations replaced by a new handshake.",
    dtls_associations_ended: "Associations ended with their identity.",
}
