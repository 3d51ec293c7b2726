//! Who runs where: the measured process on one core, what loads it on another.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The cores that this process may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    all: CpuSet,
    /// For the measured process and for the load; `None` where there is one core only.
    apart: Option<[usize; 2]>,
}

impl Cores {
    pub(crate) fn of_this_process() -> Self {
        let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let mut allowed = (0..CpuSet::count()).filter(|core| all.is_set(*core) == Ok(true));
        let apart = allowed.next().zip(allowed.next());
        Self {
            all,
            apart: apart.map(|(first, second)| [first, second]),
        }
    }

    /// Whether the load has a core of its own, so that it need not sleep.
    pub(crate) const fn are_apart(&self) -> bool {
        self.apart.is_some()
    }

    /// Begins a process on the measured core: it inherits what this thread is bound to for so long.
    pub(crate) fn on_the_measured<T>(&self, start: impl FnOnce() -> T) -> T {
        if let Some([measured, _]) = self.apart {
            bind(measured);
        }
        let started = start();
        self.load_here();
        started
    }

    /// Binds this thread to the core of the load.
    pub(crate) fn load_here(&self) {
        if let Some([_, load]) = self.apart {
            bind(load);
        }
    }

    /// Lets this thread run wherever there is room.
    pub(crate) fn anywhere(&self) {
        sched_setaffinity(Pid::from_raw(0), &self.all).unwrap();
    }
}

fn bind(core: usize) {
    let mut one = CpuSet::new();
    one.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}
