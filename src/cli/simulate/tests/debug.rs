use pcp::{DeviceMessage, PlatformMessage};
use sim::coap::Message;

use crate::{
    cli::simulate::{hooks::Hooks, trace::Way},
    engine::Change,
};

pub(super) struct Air {
    pub(super) device: u32,
    pub(super) now: u64,
}

impl Hooks for Air {
    fn commits(&mut self, change: &mut Change) -> bool {
        let text = format!("{change:?}");
        let own = text.contains(&format!("-{}\"", self.device))
            || text.contains(&format!("{:05}\"", self.device));
        let _ = own;
        if own || text.contains("Ended") || text.contains("Note") {
            println!("{:>9} COMMIT {}", self.now, text);
        }
        true
    }
    fn passes(&mut self, now_ms: u64, device: u32, way: Way, datagram: &[u8]) {
        self.now = now_ms;
        if device != self.device {
            return;
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        let what = match way {
            Way::Up => DeviceMessage::decode(message.payload)
                .map(|m| format!("{m:?}"))
                .ok(),
            Way::Down => PlatformMessage::decode(message.payload)
                .map(|m| match m {
                    PlatformMessage::SegmentResponse { segment, .. } => {
                        format!("segment {segment:?}")
                    }
                    m => format!("{m:?}"),
                })
                .ok(),
        };
        println!(
            "{now_ms:>9} {way:?} {:?} {:?} id {} {}",
            message.message_type,
            message.code,
            message.id,
            what.unwrap_or_default()
        );
    }
}
