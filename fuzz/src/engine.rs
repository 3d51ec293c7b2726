//! Two engines among many peers: half of the addresses are heard by each, and devices go from one to the other. The
//! input is a play: what devices, strangers and the operator do, and how time passes.
//!
//! The first byte says who may register: `o` any endpoint, everything else only those added before. Then
//! comes one step after the other: a letter, and what it takes. A device is a byte whose remainder by
//! eight counts (`0` to `7` are the devices `meter-0` to `meter-7`), a peer one whose remainder by
//! sixteen counts (16 addresses), a flag one whose lowest bit counts. An unknown letter does nothing; a
//! step that is cut off ends the play.
//!
//! | step | what happens |
//! |---|---|
//! | `A` device | it is added |
//! | `X` device | it is removed |
//! | `S` device | an upgrade of it starts |
//! | `P` device | its upgrade is stopped |
//! | `B` device | its upgrade is abandoned |
//! | `F` device | an upgrade of it fails before it begins |
//! | `M` flag | slots may be granted, or may not |
//! | `V` flag | the store is available, or is not |
//! | `H` flag | commits wait for `C`, or come at once |
//! | `C` n | n changes are committed |
//! | `O` | the server crashes and starts again from what was committed |
//! | `T` n | n² seconds pass; what is due is done in time |
//! | `L` n | n² seconds pass, and the engine is not told |
//! | `D` peer n bytes | the n bytes arrive from the peer |
//! | `R` device peer how | it registers from there: bit 0 says that it sleeps, bits 1 and 2 for how long, bit 3 that it announces objects, bit 4 that they are below a root |
//! | `U` device peer | it updates its registration from there |
//! | `E` device | it deregisters |
//! | `Z` device cell signal | where it is from now on: cells 0 to 2, 3 unknown; signals good, fair, weak, none |
//! | `G` device | it answers the oldest request that has reached it, as a good device does |
//! | `W` device how | it answers that request in another way, see [`Answer`] |
//! | `N` device n bytes | it notifies the n bytes |
//! | `K` device code n bytes | it notifies a PCP frame of that code, in order, with the n bytes in it |
//! | `Q` device | it sends its last datagram again |
//!
//! After every step, and when everything has been given its time at the end, what must always hold is
//! looked at: see [`world`].

mod device;
mod shards;
mod store;
mod world;

use std::time::Duration;

use world::World;

/// Devices in the play.
const DEVICES: u8 = 8;
/// Addresses that they and strangers send from.
const PEERS: u8 = 16;

/// Another way to answer a request than a good device's.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// 0: an empty acknowledgement, and nothing more.
    Acknowledge,
    /// 1: a Reset.
    Reject,
    /// 2: 4.04.
    NotFound,
    /// 3: 2.05 without payload.
    Nothing,
    /// 4: the request is lost.
    Lost,
    /// 5: the right response, in a message of its own.
    Separate,
    /// 6: the block of 16 bytes that was asked for.
    Block,
    /// 7: acknowledged empty, the right response follows in a message of its own.
    Late,
}

impl Answer {
    const fn of(byte: u8) -> Self {
        match byte % 8 {
            0 => Self::Acknowledge,
            1 => Self::Reject,
            2 => Self::NotFound,
            3 => Self::Nothing,
            4 => Self::Lost,
            5 => Self::Separate,
            6 => Self::Block,
            _ => Self::Late,
        }
    }
}

/// Plays `input`, and looks at everything that comes of it.
pub fn run(input: &[u8]) {
    let mut script = Script(input);
    let Some(policy) = script.byte() else {
        return;
    };
    let mut world = World::new(policy == b'o');
    while play(&mut world, &mut script).is_some() {
        world.look_around();
    }
    world.end();
}

/// One step, `None` when there is no whole one left.
fn play(world: &mut World, script: &mut Script<'_>) -> Option<()> {
    match script.byte()? {
        b'A' => world.add(script.device()?),
        b'X' => world.remove(script.device()?),
        b'S' => world.start(script.device()?),
        b'P' => world.stop(script.device()?),
        b'B' => world.abandon(script.device()?),
        b'F' => world.fail(script.device()?),
        b'M' => world.admit(script.flag()?),
        b'V' => world.set_store_available(script.flag()?),
        b'H' => world.hold_commits(script.flag()?),
        b'C' => world.commit_some(script.byte()?.into()),
        b'O' => world.restart(),
        b'T' => world.pass(script.span()?),
        b'L' => world.pass_unnoticed(script.span()?),
        b'D' => {
            let peer = script.peer()?;
            let bytes = script.bytes()?;
            world.datagram(peer, bytes);
        }
        b'R' => {
            let (device, peer) = (script.device()?, script.peer()?);
            world.register(device, peer, script.byte()?);
        }
        b'U' => world.update(script.device()?, script.peer()?),
        b'E' => world.deregister(script.device()?),
        b'Z' => {
            let device = script.device()?;
            world.place(device, script.byte()?, script.byte()?);
        }
        b'G' => world.answer(script.device()?, None),
        b'W' => {
            let device = script.device()?;
            world.answer(device, Some(Answer::of(script.byte()?)));
        }
        b'N' => {
            let device = script.device()?;
            let bytes = script.bytes()?;
            world.notify(device, bytes);
        }
        b'K' => {
            let (device, code) = (script.device()?, script.byte()?);
            let data = script.bytes()?;
            world.notify(device, &device::frame(code, data));
        }
        b'Q' => world.repeat(script.device()?),
        _ => {}
    }
    Some(())
}

/// What is left of the input.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    fn device(&mut self) -> Option<usize> {
        Some(usize::from(self.byte()? % DEVICES))
    }

    fn peer(&mut self) -> Option<usize> {
        Some(usize::from(self.byte()? % PEERS))
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.byte()? & 1 == 1)
    }

    fn span(&mut self) -> Option<Duration> {
        Some(Duration::from_secs(u64::from(self.byte()?).pow(2)))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.byte()?;
        self.0.split_off(..usize::from(len))
    }
}
