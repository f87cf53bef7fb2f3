//! Figures and faults of the lanes that tests ask for. A release takes none.

use strongroom_hsm::Profile;

use crate::cli::operate::DevArgs;

/// The profile as it is.
#[cfg(not(feature = "failpoints"))]
pub(super) fn apply(profile: Profile, _args: &DevArgs) -> anyhow::Result<Profile> {
    Ok(profile)
}

/// The profile with what the arguments say.
#[cfg(feature = "failpoints")]
pub(super) fn apply(mut profile: Profile, args: &DevArgs) -> anyhow::Result<Profile> {
    for fault in &args.hsm_faults {
        let (lane, script) = armed::split(fault)?;
        profile.faults.insert(armed::lane(lane)?, script.to_owned());
    }
    for setting in &args.hsm_set {
        armed::set(&mut profile, setting)?;
    }
    Ok(profile)
}

#[cfg(feature = "failpoints")]
mod armed {
    //! Reading what a test says.

    use std::time::Duration;

    use anyhow::{Context as _, bail};
    use strongroom_hsm::{Profile, algorithms::Lane};

    pub(super) fn split(text: &str) -> anyhow::Result<(&str, &str)> {
        text.split_once('=').with_context(|| format!("{text:?} has no ="))
    }

    pub(super) fn lane(name: &str) -> anyhow::Result<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.name() == name).with_context(|| format!("{name:?} is not a lane"))
    }

    pub(super) fn set(profile: &mut Profile, setting: &str) -> anyhow::Result<()> {
        let (key, number) = split(setting)?;
        let number: u64 = number.parse().with_context(|| format!("{setting:?} is not a number"))?;
        let count = usize::try_from(number)?;
        match key.split_once('.') {
            Some((name, key)) => {
                let limits = profile.lanes.get_mut(&lane(name)?).context("the lane is in every profile")?;
                match key {
                    "workers" => limits.workers = count,
                    "queue_max" => limits.queue_max = count,
                    "hang_ms" => limits.hang = Duration::from_millis(number),
                    _ => bail!("{key:?} is not a figure of a lane"),
                }
            }
            None => match key {
                "canary_every_ms" => profile.canary_every = Duration::from_millis(number),
                "loads_max" => profile.loads_max = number,
                "cached_keys_max" => profile.cached_keys_max = count,
                _ => bail!("{key:?} is not a figure of the profile"),
            },
        }
        Ok(())
    }
}
