//! The proposed lanes, as lines for a configuration.

use std::{collections::BTreeMap, fmt::Write as _};

use strongroom_hsm::{Profile, algorithms::Lane};

/// The sections `[hsm.lanes.…]`. A lane that was not measured keeps the workers that it has.
pub(super) fn toml(
    profile: &Profile,
    proposed: &BTreeMap<Lane, usize>,
    measured: &[Lane],
    library: &str,
    cores: usize,
) -> String {
    let mut text = format!("# Proposed by `strongroom bench` for {} on {cores} core(s).\n", library.trim());
    for (lane, has) in &profile.lanes {
        let workers = proposed.get(lane).filter(|_| measured.contains(lane));
        let why = if workers.is_some() { "" } else { "  # not measured: as it is" };
        let workers = workers.copied().unwrap_or(has.workers);
        let name = lane.name();
        writeln!(text, "[hsm.lanes.{name}]\nworkers = {workers}{why}").expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use strongroom_hsm::profile::{Sandbox, TokenName};

    use super::*;

    fn profile() -> Profile {
        Profile {
            module: PathBuf::new(),
            module_parameters: None,
            environment: BTreeMap::new(),
            token: TokenName { label: String::new(), serial: None },
            pin_file: PathBuf::new(),
            state_dir: PathBuf::new(),
            sync_dirs: Vec::new(),
            sandbox: Sandbox::Strict,
            lanes: Profile::softhsm_lanes(2),
            cached_keys_max: 1,
            loads_max: 1,
            canary_every: Duration::from_secs(1),
            worker_program: PathBuf::new(),
            worker_arguments: Vec::new(),
            faults: BTreeMap::new(),
        }
    }

    #[test]
    fn a_configuration_takes_the_proposed_lines() {
        let proposed = BTreeMap::from([(Lane::Short, 3), (Lane::Medium, 5), (Lane::Long, 7)]);
        let text = toml(&profile(), &proposed, &[Lane::Short, Lane::Medium], "SoftHSM 2.6", 2);
        let sample = include_str!("../../../softhsm-config/strongroom.sample.toml");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("strongroom.toml");
        std::fs::write(&file, format!("{sample}\n{text}")).expect("writes");
        let lanes = crate::config::load(&file).expect("is right").hsm.lanes;
        let workers: Vec<usize> = lanes.values().map(|lane| lane.workers).collect();
        assert_eq!(workers, [3, 5, 1, 1], "{text}");
        assert_eq!(text.matches("not measured").count(), 2, "{text}");
    }
}
