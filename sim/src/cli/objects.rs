//! Options of devices that are upgraded by an object of OMA's.

use std::path::PathBuf;

use clap::Args;
use sim::{
    fleet::FleetConfig,
    object::{Character, Image, UpdatesBy},
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Devices without PCP")]
pub(crate) struct ObjectArguments {
    /// By what devices are upgraded: pcp, firmware (object 5), software (9), components (33629)
    #[arg(long, default_value = "pcp", value_name = "WAY")]
    updates_by: UpdatesBy,

    /// What clients the devices are like, in turn: leshan, anjay, zephyr, nrf, pushonly, stub
    #[arg(
        long = "character",
        default_value = "leshan",
        value_delimiter = ',',
        value_name = "CLIENT"
    )]
    characters: Vec<Character>,

    /// The component that they have besides `main` (components), or their software (software)
    #[arg(long, value_name = "NAME")]
    component: Option<String>,

    /// The package that they will be given, which is --target; without it whatever comes is taken for that
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

impl ObjectArguments {
    pub(super) fn apply_to(&self, config: &mut FleetConfig) -> Result<(), String> {
        config.updates_by = self.updates_by;
        config.characters.clone_from(&self.characters);
        config.component = self.component.as_deref().map(Into::into);
        let Some(path) = &self.image else {
            return Ok(());
        };
        let target = (config.target).ok_or("--image needs the version that it is: --target")?;
        let bytes = std::fs::read(path)
            .map_err(|error| format!("reading the package {}: {error}", path.display()))?;
        config.images = vec![Image::new(target, &bytes)];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Arguments;

    fn config(arguments: &[&str]) -> Result<FleetConfig, String> {
        let arguments = [&["cellwise-sim", "--updates-by=firmware"], arguments].concat();
        Arguments::parse_from(arguments).fleet_config()
    }

    #[test]
    fn what_devices_are_like_and_expect_is_read_from_the_command_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"package").unwrap();
        let image = format!("--image={}", file.path().display());
        let config_of = |arguments: &[&str]| config(arguments).unwrap();
        let found = config_of(&[
            "--character=anjay,nrf",
            "--component=radio",
            "--target=V2",
            &image,
        ]);
        assert_eq!(found.characters, [Character::Anjay, Character::Nrf]);
        assert_eq!(found.component.as_deref(), Some("radio"));
        let target = "V2".parse().unwrap();
        assert_eq!(found.images, [Image::new(target, b"package")]);
        assert!(config_of(&["--target=V2"]).images.is_empty());
        let error = config(&[&image]).unwrap_err();
        assert!(error.contains("--target"), "{error}");
        let error = config(&["--target=V2", "--image=/nowhere/file"]).unwrap_err();
        assert!(error.contains("/nowhere/file"), "{error}");
    }
}
