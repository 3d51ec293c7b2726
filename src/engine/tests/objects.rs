//! Devices that are upgraded by the standard's own objects, scripted by hand.

mod ends;

use std::collections::BTreeMap;

use super::*;
use crate::{
    coap::Block,
    config::{Delivery, ProductConfig, UpdateBy},
    ledger::{Failure, Success, UpdateObject},
    package::Content,
};

const LINKS: &str = "</3/0>,</4/0>,</5/0>";
const OLD: &str = "V1";
const NEW: &str = "V2";

fn image() -> Vec<u8> {
    (0..3_000u32).map(|at| (at % 241) as u8).collect()
}

/// A package that is served in blocks.
fn in_blocks(component: Option<&str>) -> Arc<Package> {
    in_blocks_to(NEW, component)
}

fn in_blocks_to(version: &str, component: Option<&str>) -> Arc<Package> {
    let sha256 = "ab".repeat(32);
    let content = Content::new(image().into(), &sha256).unwrap();
    let http = crate::package::HttpPackage { sha256 };
    let version = crate::package::Version::new(version).unwrap();
    let package = Package::over_http(version, image().len() as u64, http);
    Arc::new(package.and_in_blocks(content).for_component(component))
}

/// A client of LwM2M that has an object by which it is upgraded, and does as the standard says.
struct Client {
    script: Script,
    /// What is read and observed.
    values: BTreeMap<String, String>,
    /// Under which token each is observed.
    observed: BTreeMap<String, crate::coap::Token>,
    number: u32,
    uri: Option<String>,
    pushed: Vec<u8>,
    /// Its own size of blocks.
    szx: u8,
    executed: Vec<(String, Vec<u8>)>,
    written: Vec<(String, Vec<u8>)>,
    refuses_observation: bool,
    /// What it does not answer: paths that begin so.
    deaf_to: Option<&'static str>,
}

impl Client {
    fn new(links: &'static str) -> Self {
        let mut script = Script::new("meter-1", 7_000);
        script.links = links;
        let values = [
            ("3/0/3", OLD),
            ("5/0/3", "0"),
            ("5/0/5", "0"),
            ("5/0/9", "2"),
        ];
        Self {
            script,
            values: (values.iter())
                .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()))
                .collect(),
            observed: BTreeMap::new(),
            number: 1,
            uri: None,
            pushed: Vec::new(),
            szx: 6,
            executed: Vec::new(),
            written: Vec::new(),
            refuses_observation: false,
            deaf_to: None,
        }
    }

    fn set(&mut self, path: &str, value: &str) {
        self.values.insert(path.into(), value.into());
    }

    /// Sets a value, and notifies it where it is observed.
    fn tells(&mut self, world: &mut World, path: &str, value: &str) {
        self.set(path, value);
        let Some(token) = self.observed.get(path).copied() else {
            return;
        };
        self.number += 1;
        let id = world.next_id;
        world.next_id += 1;
        let datagram = MessageBuilder::new(Kind::Confirmable, Code::CONTENT, id, token)
            .observe(self.number)
            .content_format(ContentFormat::TEXT)
            .payload(value.as_bytes().to_vec())
            .build();
        world.datagram(self.script.at, &datagram);
    }

    /// Answers whatever it is sent, until nothing is left.
    fn answer(&mut self, world: &mut World) {
        while let Some(at) = (world.sent.iter()).position(|(to, _)| *to == self.script.at) {
            let (_, message) = world.sent.remove(at).unwrap();
            if message.kind() != Kind::Confirmable {
                continue;
            }
            let path: Vec<String> = (message.path().iter())
                .map(|segment| String::from_utf8(segment.to_vec()).unwrap())
                .collect();
            let path = path.join("/");
            if self.deaf_to.is_some_and(|part| path.starts_with(part)) {
                continue;
            }
            let reply = match message.code() {
                Code::GET if path == "4/0" => {
                    self.script.answer_read(world, &message, 17, -90, 15);
                    continue;
                }
                Code::GET => self.read(&message, &path),
                Code::PUT if message.queries().next().is_some() => {
                    response(&message, Code::CHANGED)
                }
                Code::PUT => self.write(&message, &path),
                Code::POST => {
                    self.executed.push((path, message.payload().to_vec()));
                    response(&message, Code::CHANGED)
                }
                _ => {
                    world.datagram(self.script.at, &crate::coap::reset(message.message_id()));
                    continue;
                }
            };
            world.datagram(self.script.at, &reply.build());
        }
    }

    fn read(&mut self, message: &Message<'static>, path: &str) -> MessageBuilder {
        let observes = message.observe() == Some(0);
        if observes && self.refuses_observation {
            return response(message, Code::METHOD_NOT_ALLOWED);
        }
        let Some(value) = self.values.get(path) else {
            return response(message, Code::NOT_FOUND);
        };
        let mut reply = response(message, Code::CONTENT);
        if observes {
            self.observed.insert(path.to_owned(), message.token());
            reply = reply.observe(self.number);
        }
        reply
            .content_format(ContentFormat::TEXT)
            .payload(value.as_bytes().to_vec())
    }

    fn write(&mut self, message: &Message<'static>, path: &str) -> MessageBuilder {
        let payload = message.payload().to_vec();
        if let Some(option) = message.block1() {
            let block = Block::decode(option).unwrap();
            let at = block.number as usize * block.size();
            if at > self.pushed.len() {
                return response(message, Code::REQUEST_ENTITY_INCOMPLETE);
            }
            self.pushed.truncate(at);
            self.pushed.extend(payload);
            let own = Block {
                szx: block.szx.min(self.szx),
                ..block
            };
            let code = if block.more {
                Code::CONTINUE
            } else {
                self.written.push((path.to_owned(), self.pushed.clone()));
                Code::CHANGED
            };
            return response(message, code).block1(own.encode());
        }
        if path == "5/0/1" {
            let uri = String::from_utf8(payload.clone()).unwrap();
            self.uri = Some(uri).filter(|uri| !uri.is_empty());
            if self.uri.is_none() {
                self.set("5/0/3", "0");
                self.set("5/0/5", "0");
            }
        }
        self.written.push((path.to_owned(), payload));
        response(message, Code::CHANGED)
    }

    /// Fetches block after block of what it was told, from a socket of its own.
    fn fetches(&self, world: &mut World, port: u16, szx: u8) -> Vec<u8> {
        let uri = self.uri.as_deref().expect("was told where the package is");
        let path = uri.strip_prefix("coap://192.0.2.1:5683/").unwrap();
        let mut image = Vec::new();
        for number in 0.. {
            let Some((block, more)) = Self::fetches_block(world, (port, path), number, szx) else {
                break;
            };
            image.extend(block);
            if !more {
                break;
            }
        }
        image
    }

    fn fetches_block(
        world: &mut World,
        (port, path): (u16, &str),
        number: u32,
        szx: u8,
    ) -> Option<(Vec<u8>, bool)> {
        let id = world.next_id;
        world.next_id += 1;
        let block = Block {
            number,
            more: false,
            szx,
        };
        let token = crate::coap::Token::new(&[1, 2]);
        let get = MessageBuilder::new(Kind::Confirmable, Code::GET, id, token);
        let get = path.split('/').fold(get, MessageBuilder::path);
        world.datagram(peer(port), &get.block2(block.encode()).build());
        let at = world.sent.iter().position(|(to, _)| *to == peer(port))?;
        let (_, answer) = world.sent.remove(at)?;
        if answer.code() != Code::CONTENT {
            return None;
        }
        let told = Block::decode(answer.block2().unwrap()).unwrap();
        Some((answer.payload().to_vec(), told.more))
    }
}

fn world_with(product: ProductConfig) -> World {
    let mut config = Config::default();
    config.products.insert("meter".into(), product);
    world_of(config)
}

fn world_of(config: Config) -> World {
    let mut world = World::with(config);
    world.engine.reached_at(Reached {
        coap: Some(Reached::authority("192.0.2.1", 5683)),
        ..Reached::default()
    });
    world.add("meter-1");
    world
}

/// From the registration to the offer.
fn offered(world: &mut World, client: &mut Client, package: &Arc<Package>) {
    client.script.register(world);
    client.answer(world);
    world.start("meter-1", 1, package);
    for _ in 0..20 {
        world.pass_s(1);
        client.answer(world);
    }
}

fn succeeded(world: &World) -> bool {
    world.outcome(1) == Some(Outcome::Succeeded(Success::Upgraded))
}

#[test]
fn a_device_fetches_from_a_second_socket_installs_and_tells_its_new_version() {
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new(LINKS);
    offered(&mut world, &mut client, &in_blocks(None));
    assert!(client.observed.contains_key("5/0/3"), "{:?}", notes(&world));
    client.tells(&mut world, "5/0/3", "1");
    assert_eq!(client.fetches(&mut world, 7_001, 4), image());
    client.tells(&mut world, "5/0/3", "2");
    client.answer(&mut world);
    assert_eq!(client.executed, [("5/0/2".to_owned(), Vec::new())]);
    client.tells(&mut world, "5/0/3", "3");
    client.set("3/0/3", NEW);
    client.set("5/0/3", "0");
    client.set("5/0/5", "1");
    client.observed.clear();
    client.script.at = peer(7_002);
    world.pass_s(30);
    client.script.register(&mut world);
    client.answer(&mut world);
    assert!(succeeded(&world), "{:#?}", notes(&world));
    // what it was told is over
    let path = client.uri.clone().unwrap();
    let path = path.strip_prefix("coap://192.0.2.1:5683/").unwrap();
    let over = Client::fetches_block(&mut world, (7_001, path), 0, 4);
    assert_eq!(over, None);
    assert_eq!(
        world.stages(),
        [
            Stage::WaitingForDevice,
            Stage::QueryingVersion,
            Stage::QueryingCoverage,
            Stage::WaitingForSlot,
            Stage::Downloading,
            Stage::Executing
        ]
    );
}

#[test]
fn a_device_that_is_written_to_lowers_the_blocks_and_has_the_whole_package() {
    let mut world = world_with(ProductConfig {
        delivery: Delivery::Push,
        ..ProductConfig::default()
    });
    let mut client = Client::new(LINKS);
    client.szx = 2;
    offered(&mut world, &mut client, &in_blocks(None));
    let written = (client.written.iter()).find(|(path, _)| path == "5/0/0");
    assert_eq!(written.map(|(_, bytes)| bytes), Some(&image()));
    client.tells(&mut world, "5/0/3", "2");
    client.answer(&mut world);
    assert_eq!(client.executed.len(), 1);
    client.set("3/0/3", NEW);
    client.tells(&mut world, "5/0/3", "0");
    client.tells(&mut world, "5/0/5", "1");
    client.answer(&mut world);
    assert!(succeeded(&world), "{:#?}", notes(&world));
}

#[test]
fn one_that_cannot_be_observed_is_read() {
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new(LINKS);
    client.refuses_observation = true;
    offered(&mut world, &mut client, &in_blocks(None));
    assert_eq!(client.fetches(&mut world, 7_001, 6), image());
    client.set("5/0/3", "2");
    world.pass_s(120);
    client.answer(&mut world);
    assert_eq!(client.executed.len(), 1, "{:#?}", notes(&world));
}

#[test]
fn a_result_is_told_in_words_and_the_package_is_forgotten() {
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new(LINKS);
    offered(&mut world, &mut client, &in_blocks(None));
    client.tells(&mut world, "5/0/3", "1");
    client.tells(&mut world, "5/0/5", "5");
    let failed = Failure::UpdateResult(UpdateObject::Firmware, 5);
    assert_eq!(world.outcome(1), Some(Outcome::Failed(failed)));
    let told = told_at_the_end(&world).unwrap();
    assert!(told.contains("result 5"), "{told}");
    assert!(told.contains("integrity"), "{told}");
}

#[test]
fn a_stop_is_told_to_the_device_at_its_next_contact() {
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new(LINKS);
    offered(&mut world, &mut client, &in_blocks(None));
    client.tells(&mut world, "5/0/3", "1");
    client.written.clear();
    world.command(Command::Stop {
        endpoint: "meter-1".into(),
        upgrade: UpgradeId(1),
        reason: crate::ledger::StopReason::Cancelled,
    });
    assert!(matches!(world.outcome(1), Some(Outcome::Cancelled(_))));
    client.answer(&mut world);
    assert_eq!(client.written, [("5/0/1".to_owned(), Vec::new())]);
}

#[test]
fn what_is_from_before_is_reset_before_anything_is_offered() {
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new(LINKS);
    client.set("5/0/3", "2");
    offered(&mut world, &mut client, &in_blocks(None));
    let paths: Vec<&str> = (client.written.iter())
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(paths, ["5/0/1", "5/0/1"]);
    assert_eq!(client.written[0].1, b"");
    assert!(client.uri.is_some());
}

#[test]
fn a_device_without_any_object_for_it_is_not_supported() {
    let mut world = world_with(ProductConfig {
        update_by: UpdateBy::Software,
        ..ProductConfig::default()
    });
    let mut client = Client::new(LINKS);
    offered(&mut world, &mut client, &in_blocks(None));
    let failed = Failure::NotSupported;
    assert_eq!(world.outcome(1), Some(Outcome::Failed(failed)));
}

#[test]
fn a_component_is_found_by_its_name_and_updated_alone() {
    let mut world = world_with(ProductConfig::default());
    let mut client = Client::new("</3/0>,</4/0>,</5/0>,</33629/0>,</33629/3>");
    for (path, value) in [
        ("33629/0/14", "application"),
        ("33629/0/15", "A1"),
        ("33629/3/14", "modem"),
        ("33629/3/15", OLD),
        ("33629/3/3", "0"),
        ("33629/3/5", "0"),
        ("33629/3/9", "1"),
    ] {
        client.set(path, value);
    }
    offered(&mut world, &mut client, &in_blocks(Some("modem")));
    let written = (client.written.iter()).find(|(path, _)| path == "33629/3/0");
    assert_eq!(
        written.map(|(_, bytes)| bytes),
        Some(&image()),
        "{:#?}",
        notes(&world)
    );
    client.tells(&mut world, "33629/3/3", "2");
    client.answer(&mut world);
    assert_eq!(client.executed, [("33629/3/2".to_owned(), b"0".to_vec())]);
    client.set("33629/3/15", NEW);
    client.tells(&mut world, "33629/3/3", "0");
    client.tells(&mut world, "33629/3/5", "1");
    client.answer(&mut world);
    assert!(succeeded(&world), "{:#?}", notes(&world));
}

#[test]
fn a_software_is_updated_by_its_name_and_a_new_one_goes_into_a_free_instance() {
    for (name, instance) in [("agent", 0), ("other", 1)] {
        let mut world = world_with(ProductConfig::default());
        let mut client = Client::new("</3/0>,</4/0>,</9/0>,</9/1>");
        for (path, value) in [
            ("9/0/0", "agent"),
            ("9/0/1", OLD),
            ("9/0/7", "4"),
            ("9/0/9", "2"),
            ("9/1/0", ""),
            ("9/1/7", "0"),
            ("9/1/9", "0"),
        ] {
            client.set(path, value);
        }
        offered(&mut world, &mut client, &in_blocks(Some(name)));
        let path = |resource: u16| format!("9/{instance}/{resource}");
        if instance == 0 {
            assert_eq!(client.executed, [(path(6), b"1".to_vec())]);
            client.set(&path(7), "0");
            client.set(&path(9), "0");
            world.pass_s(120);
            client.answer(&mut world);
        }
        let uri = (client.written.iter()).find(|(at, _)| *at == path(3));
        client.uri = uri.map(|(_, uri)| String::from_utf8(uri.clone()).unwrap());
        assert_eq!(
            client.fetches(&mut world, 7_001, 5),
            image(),
            "{:#?}",
            notes(&world)
        );
        client.executed.clear();
        client.tells(&mut world, &path(7), "3");
        client.answer(&mut world);
        client.tells(&mut world, &path(9), "2");
        client.tells(&mut world, &path(7), "4");
        client.set(&path(1), NEW);
        client.answer(&mut world);
        assert_eq!(
            client.executed,
            [(path(4), Vec::new()), (path(10), Vec::new())]
        );
        assert!(succeeded(&world), "{:#?}", notes(&world));
    }
}
