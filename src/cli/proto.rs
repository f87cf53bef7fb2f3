//! `strongroom proto`: the wire contract that this program speaks, as files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{compose::failure, operate::ProtoArgs};

pub(super) const AFTER_HELP: &str = "\
The sources lie by their import paths (strongroom/v1/crypto.proto), so that DIR is what -I or --proto_path takes. \
strongroom.v1.binpb is the FileDescriptorSet with all imports, for buf, grpcurl and others.";

/// The descriptors' file.
const DESCRIPTORS: &str = "strongroom.v1.binpb";

/// Writes them.
pub(super) fn write(args: &ProtoArgs) -> anyhow::Result<ExitCode> {
    let written = all(&args.out);
    written.map_err(|error| failure(format!("cannot write the wire contract to {}", args.out.display()), &error))?;
    Ok(ExitCode::SUCCESS)
}

fn all(folder: &Path) -> io::Result<()> {
    for (path, text) in strongroom_proto::SOURCES {
        let path: PathBuf = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)?;
    }
    fs::write(folder.join(DESCRIPTORS), strongroom_proto::DESCRIPTORS)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn sources_and_descriptors_are_of_one_contract() {
        let folder = tempfile::tempdir().expect("a folder");
        all(folder.path()).expect("writes");
        let set = fs::read(folder.path().join(DESCRIPTORS)).expect("reads");
        let set = prost_types::FileDescriptorSet::decode(&set[..]).expect("descriptors");
        let names: Vec<&str> = set.file.iter().map(|file| file.name()).collect();
        assert!(names.contains(&"google/protobuf/timestamp.proto"), "all imports: {names:?}");
        for (path, text) in strongroom_proto::SOURCES {
            assert!(names.contains(path), "{path}");
            assert_eq!(&fs::read_to_string(folder.path().join(path)).expect("reads"), text);
        }
    }
}
