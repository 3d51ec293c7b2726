use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::{Exchange, until};
use crate::{
    clock::SystemClock,
    config::Config,
    session::{Gate, GateAsk},
};

/// What is said to the gate.
pub(super) enum GateMessage {
    Ask(GateAsk),
    /// Whether slots are granted.
    Open(bool),
    StoreAvailable(bool),
    Configure(Arc<Config>),
}

/// Messages that are taken before the gate's own deadlines have their turn.
const AT_ONCE: usize = 256;

/// Lets the gate hear the shards, and them hear it. It never ends by itself.
pub(super) async fn run_gate(
    mut gate: Gate,
    clock: SystemClock,
    exchange: Arc<Exchange>,
    mut inbox: UnboundedReceiver<GateMessage>,
) {
    let mut messages = Vec::with_capacity(AT_ONCE);
    loop {
        let wait = until(gate.poll_timeout(), clock.now().instant);
        tokio::select! {
            _ = inbox.recv_many(&mut messages, AT_ONCE) => {}
            () = tokio::time::sleep(wait) => {}
        }
        let now = clock.now().instant;
        for message in messages.drain(..) {
            match message {
                GateMessage::Ask(ask) => gate.handle(now, ask),
                GateMessage::Open(open) => gate.open(open),
                GateMessage::StoreAvailable(available) => gate.store_available(available),
                GateMessage::Configure(config) => gate.configure(&config.admission),
            }
        }
        gate.handle_timeout(clock.now().instant);
        while let Some((device, order)) = gate.poll_order() {
            exchange.tell(device, order);
        }
    }
}
