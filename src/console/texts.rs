//! What the pages say, in English and in Simplified Chinese (Fluent, <https://projectfluent.org>).

use std::{fmt, sync::LazyLock};

use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use unic_langid::langid;

/// A language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

/// What may stand in a text.
pub(super) trait Said {
    /// As the texts take it.
    fn said(&self) -> FluentValue<'static>;
}

impl<T: Said + ?Sized> Said for &T {
    fn said(&self) -> FluentValue<'static> {
        T::said(self)
    }
}

impl Said for str {
    fn said(&self) -> FluentValue<'static> {
        FluentValue::from(self.to_owned())
    }
}

/// Texts that are there already, and numbers, which texts may choose by.
macro_rules! said {
    ($($kind:ty)*) => {
        $(impl Said for $kind {
            fn said(&self) -> FluentValue<'static> {
                FluentValue::from(self.clone())
            }
        })*
    };
}

said!(String u16 u32 u64 usize i64 f64);

type Bundle = FluentBundle<FluentResource>;

/// The files of one language.
macro_rules! files {
    ($place:literal: $($name:literal)*) => {
        [$(include_str!(concat!("texts/", $place, "/", $name, ".ftl")),)*]
    };
}

/// The names of the files, which each language has.
macro_rules! of_each {
    ($($name:literal)*) => {
        /// English.
        pub(super) const ENGLISH: &[&str] = &files!("en": $($name)*);
        /// Simplified Chinese.
        pub(super) const CHINESE: &[&str] = &files!("zh": $($name)*);
    };
}

of_each!("base" "login" "now" "tasks" "task" "newtask" "upgrades" "devices" "cells" "fleet" "packages" "homes" "hooks" "people" "admin");

static OF_ENGLISH: LazyLock<Bundle> = LazyLock::new(|| bundle(Language::English, ENGLISH));
static OF_CHINESE: LazyLock<Bundle> = LazyLock::new(|| bundle(Language::Chinese, CHINESE));

impl Language {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// Its tag (RFC 5646).
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-Hans",
        }
    }

    /// What it is called by those who speak it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "简体中文",
        }
    }

    /// The language of this tag.
    pub(super) fn tagged(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.tag() == tag)
    }

    /// The one that a browser would like best (RFC 9110 §12.5.4).
    pub(super) fn of_browser(accepted: &str) -> Self {
        let wanted = accepted.split(',').take(20).filter_map(|range| {
            let mut parts = range.split(';');
            let tag = parts.next()?.trim().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse().ok());
            let language = match tag.split('-').next()? {
                "zh" => Self::Chinese,
                "en" => Self::English,
                _ => return None,
            };
            Some((language, weight.unwrap_or(1.0_f32)))
        });
        // of those that are liked alike the first
        let best = wanted.fold(None, |best, next| match best {
            Some((_, weight)) if weight >= next.1 => best,
            _ => Some(next),
        });
        best.map_or_else(Self::default, |(language, _)| language)
    }

    /// What is said in this language; `None`: nothing has this name.
    pub(super) fn say(self, name: &str, arguments: &[(&str, FluentValue<'_>)]) -> Option<String> {
        let own = match self {
            Self::English => &OF_ENGLISH,
            Self::Chinese => &OF_CHINESE,
        };
        // tests see to it that no language lacks anything
        say(own, name, arguments).or_else(|| say(&OF_ENGLISH, name, arguments))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag())
    }
}

fn say(bundle: &Bundle, name: &str, arguments: &[(&str, FluentValue<'_>)]) -> Option<String> {
    let pattern = bundle.get_message(name)?.value()?;
    let mut given = FluentArgs::with_capacity(arguments.len());
    for (name, value) in arguments {
        given.set(*name, value.clone());
    }
    let mut errors = Vec::new();
    let said = bundle.format_pattern(pattern, Some(&given), &mut errors);
    debug_assert!(errors.is_empty(), "{name}: {errors:?}");
    Some(said.into_owned())
}

fn bundle(language: Language, files: &[&str]) -> Bundle {
    let id = match language {
        Language::English => langid!("en"),
        Language::Chinese => langid!("zh-Hans"),
    };
    let mut bundle = Bundle::new_concurrent(vec![id]);
    // the pages are marked with their language, and what is put into a text is plain
    bundle.set_use_isolating(false);
    for file in files {
        let resource = match FluentResource::try_new((*file).to_owned()) {
            Ok(resource) => resource,
            Err((resource, errors)) => {
                debug_assert!(errors.is_empty(), "{errors:?}");
                resource
            }
        };
        let added = bundle.add_resource(resource);
        debug_assert!(added.is_ok(), "{added:?}");
    }
    bundle
}
