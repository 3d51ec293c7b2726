//! When devices were heard last, and how they are connected. The store knows of registrations and reports; the engines know of every message.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{
    Exchange,
    message::{HeardAnswer, Live, Message},
};
use crate::{engine::ShardId, ledger::DeviceId};

/// Shards answer in milliseconds. What has not come by then is told as it is stored.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// Knows when devices were heard last, by any message, and how they are connected.
#[async_trait]
pub trait Heard: Send + Sync {
    /// For each of these endpoints, in their order, what is known of it at the moment: nothing where it was not heard since the start,
    /// or where that cannot be told within moments. Ask for a page at most.
    async fn live(&self, endpoints: &[&str]) -> Vec<Live>;

    /// Returns when the shards have taken what they were told before, such as other settings; or within moments, and they take it later.
    async fn caught_up(&self);
}

#[async_trait]
impl Heard for Exchange {
    async fn live(&self, endpoints: &[&str]) -> Vec<Live> {
        let devices: Vec<DeviceId> = endpoints.iter().map(|name| self.ids().of(name)).collect();
        let (answer, mut answers) = mpsc::unbounded_channel::<HeardAnswer>();
        for (shard, devices) in self.by_shard(&devices) {
            let answer = answer.clone();
            self.send(shard, Message::Heard { devices, answer });
        }
        drop(answer);
        let mut heard = HashMap::with_capacity(devices.len());
        let all = async {
            while let Some(some) = answers.recv().await {
                heard.extend(some);
            }
        };
        let _ = tokio::time::timeout(ANSWERED_WITHIN, all).await; // what has come is told
        let live = devices.iter().map(|id| heard.get(id).cloned());
        live.map(Option::unwrap_or_default).collect()
    }

    async fn caught_up(&self) {
        self.all_answer(ANSWERED_WITHIN).await;
    }
}

impl Exchange {
    /// Whether every shard answers within this time.
    pub async fn all_answer(&self, within: Duration) -> bool {
        let (answer, mut answers) = mpsc::unbounded_channel::<HeardAnswer>();
        let asked = self.ask_all(&answer);
        drop(answer);
        let all = async {
            let mut answered = 0;
            while answers.recv().await.is_some() {
                answered += 1;
            }
            answered
        };
        tokio::time::timeout(within, all).await == Ok(asked)
    }

    /// Asks every shard of no device. Returns how many there are.
    fn ask_all(&self, answer: &mpsc::UnboundedSender<HeardAnswer>) -> usize {
        let shards = self.shards();
        for shard in shards.clone() {
            let (devices, answer) = (Vec::new(), answer.clone());
            self.send(shard, Message::Heard { devices, answer });
        }
        shards.count()
    }

    /// Which of these devices each shard has.
    fn by_shard(&self, devices: &[DeviceId]) -> HashMap<ShardId, Vec<DeviceId>> {
        let mut lots: HashMap<ShardId, Vec<DeviceId>> = HashMap::new();
        let directory = self.directory();
        for id in devices {
            if let Some(shard) = directory.find(*id) {
                lots.entry(shard).or_default().push(*id);
            }
        }
        lots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::UtcMillis, ledger::DeviceIds};

    #[tokio::test]
    async fn a_shard_that_does_not_answer_leaves_what_is_stored() {
        let ids = DeviceIds::new([7; 32]);
        let (exchange, mut ends) = Exchange::new(ids, 3);
        let at = UtcMillis(1_800_000_000_000);
        let names = ["answered", "silent", "gone", "nobody's"];
        for (name, shard) in names.into_iter().zip(0..3) {
            let id = exchange.ids().of(name);
            exchange.directory().place(id, ShardId(shard));
        }
        drop(ends.shards.pop());
        let mut answers = ends.shards.remove(0);
        let shard = tokio::spawn(async move {
            let Some(Message::Heard { devices, answer }) = answers.recv().await else {
                panic!("nothing was asked");
            };
            let live = Live {
                heard_at: Some(at),
                connected: None,
            };
            let heard = devices.into_iter().map(|id| (id, live.clone())).collect();
            answer.send(heard).unwrap();
        });
        let live = exchange.live(&names).await;
        let heard: Vec<_> = live.into_iter().map(|it| it.heard_at).collect();
        assert_eq!(heard, [Some(at), None, None, None]);
        shard.await.unwrap();
    }

    #[tokio::test]
    async fn a_shard_that_hangs_or_has_gone_shows() {
        let (exchange, mut ends) = Exchange::new(DeviceIds::new([7; 32]), 2);
        let within = Duration::from_millis(200);
        let answering = |mut inbox: mpsc::UnboundedReceiver<Message>| {
            tokio::spawn(async move {
                while let Some(Message::Heard { devices, answer }) = inbox.recv().await {
                    assert_eq!(devices, []);
                    let _ = answer.send(Vec::new()); // it may be too late
                }
            })
        };
        let hangs = ends.shards.pop().unwrap();
        answering(ends.shards.pop().unwrap());
        assert!(!exchange.all_answer(within).await);
        let second = answering(hangs); // it has asked before, and answers late
        let late = exchange.all_answer(within).await;
        second.abort();
        let _ = second.await;
        assert!(!exchange.all_answer(within).await);
        assert!(late);
    }
}
