//! What a registration tells of the device, as small as a million rows want it.

use crate::{ledger::UpdateObject, lwm2m::Objects};

/// Which of the objects 0 to 61 and 33629 a device announces, and whether it announces any at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ObjectSet(u64);

impl ObjectSet {
    /// The bit that says that objects are announced.
    const ANY: u16 = 63;
    /// That of Advanced Firmware Update.
    const COMPONENTS: u16 = 62;

    pub(super) fn of(objects: &Objects) -> Self {
        objects.paths().map(|path| path.object()).collect()
    }

    /// Of links as [`Objects::links`] writes them, and the store gives them back: a million devices come in within
    /// seconds, so that no more is read than is wanted.
    pub(super) fn of_links(links: &str) -> Self {
        let targets = links.split("</").skip(1);
        let numbers = targets.filter_map(|link| link.split(['/', '>']).next()?.parse().ok());
        numbers.collect()
    }

    /// Whether the object is announced; `None` when none is, or when it is none of those that are kept.
    pub(super) fn has(self, object: u16) -> Option<bool> {
        let known = self.0 >> Self::ANY == 1 && bit(object) != 0;
        known.then(|| self.0 & bit(object) != 0)
    }

    /// Those that are announced, in order.
    pub(super) fn numbers(self) -> impl Iterator<Item = u16> {
        let kept = (0..Self::COMPONENTS).chain([UpdateObject::Components.number()]);
        kept.filter(move |object| self.0 & bit(*object) != 0)
    }
}

impl FromIterator<u16> for ObjectSet {
    fn from_iter<T: IntoIterator<Item = u16>>(objects: T) -> Self {
        let objects = objects.into_iter();
        Self(objects.fold(0, |all, object| all | 1 << Self::ANY | bit(object)))
    }
}

/// 0 for an object that is not kept.
const fn bit(object: u16) -> u64 {
    if object < ObjectSet::COMPONENTS {
        1 << object
    } else if object == UpdateObject::Components.number() {
        1 << ObjectSet::COMPONENTS
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(links: &str) -> ObjectSet {
        ObjectSet::of(&Objects::parse(links.as_bytes()))
    }

    #[test]
    fn knows_what_is_announced_and_whether_anything_is() {
        let set = of("</3/0>,</19/0>,</19/1>,</61>,</63/0>,</33629/0>,</0>");
        for (object, expected) in [
            (0, Some(true)),
            (3, Some(true)),
            (4, Some(false)),
            (19, Some(true)),
            (60, Some(false)),
            (61, Some(true)),
            (62, None),
            (63, None),
            (33_629, Some(true)),
            (3303, None),
            (u16::MAX, None),
        ] {
            assert_eq!(set.has(object), expected, "{object}");
        }
        assert!(set.numbers().eq([0, 3, 19, 61, 33_629]));
        for links in [
            "",
            "</0>",
            "</3>;ver=1.1,</3/0>,</19/0>,</3303/7>,</65535/65535>",
        ] {
            let objects = Objects::parse(links.as_bytes());
            assert_eq!(objects.links(), links);
            assert_eq!(
                ObjectSet::of_links(links),
                ObjectSet::of(&objects),
                "{links}"
            );
        }
        for other in ["", "</lwm2m>;rt=\"oma.lwm2m\""] {
            assert_eq!(of(other), ObjectSet::default());
            assert_eq!(of(other).has(19), None);
        }
        assert_eq!(of("</3303/0>").has(19), Some(false));
        assert_eq!(of("</3303/0>").numbers().count(), 0);
    }
}
