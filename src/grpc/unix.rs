//! The Unix socket, for callers on this machine. There is no TLS: the kernel says who the peer is, by its process's user
//! and group at the moment it connected (SO_PEERCRED, unix(7)).

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
};
use tokio::net::{UnixListener, UnixStream};

use super::identity::IdentityError;
use crate::model::{Identity, Lease};

/// How many may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Whom the kernel shows for users and groups that this machine's user namespace has no number for
/// (user_namespaces(7)). It is many, so it is nobody.
const OVERFLOW_ID: u32 = 65_534;

/// A Unix socket, as an operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its path.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Whose processes may come; all that the mode lets in, where neither this nor `gids` names any.
    pub uids: Vec<u32>,
    /// The processes of which groups may come.
    pub gids: Vec<u32>,
}

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UnixError {
    /// Others could put a socket of theirs in its place.
    #[error("others can write to the folder {0}, or own it: they could put a socket of theirs there")]
    Folder(PathBuf),
    /// Something else is there.
    #[error("{0} is there, and is no socket: it is not removed")]
    NotASocket(PathBuf),
    /// Somebody listens.
    #[error("another process listens on {0}")]
    InUse(PathBuf),
    /// The system does not let it be.
    #[error("the socket {path} cannot be made")]
    System {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A socket that listens. Dropped, its file is removed.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    place: UnixSocket,
    /// Device and inode of our file: another one in its place is not ours to remove.
    file: (u64, u64),
}

impl Bound {
    /// Makes the socket. One that was left behind is removed if nobody listens on it.
    ///
    /// # Errors
    /// When its folder is open to others, something else is there, or the system refuses.
    pub fn new(place: &UnixSocket) -> Result<Self, UnixError> {
        let path = place.path.as_path();
        let failed = |source| UnixError::System { path: path.to_owned(), source };
        closed_folder(path)?;
        make_room(path)?;
        let socket = stream_socket().map_err(failed)?;
        let address = SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?;
        bind(&socket, &address).map_err(|errno| failed(errno.into()))?;
        // Until it listens nobody can connect, whatever mode it was made with.
        fs::set_permissions(path, fs::Permissions::from_mode(place.mode)).map_err(failed)?;
        let about = fs::symlink_metadata(path).map_err(failed)?;
        listen(&socket, BACKLOG).map_err(|errno| failed(errno.into()))?;
        let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
        Ok(Self { listener, place: place.clone(), file: (about.dev(), about.ino()) })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Who the peer is, and how records show where it comes from.
    pub(super) fn identify(&self, stream: &UnixStream) -> (Result<Arc<Identity>, IdentityError>, String) {
        let Ok(peer) = stream.peer_cred() else { return (Err(IdentityError::Unreadable), "unix".to_owned()) };
        let source = peer.pid().map_or_else(|| "unix".to_owned(), |pid| format!("unix:pid:{pid}"));
        (self.identity(peer.uid(), peer.gid()).map(Arc::new), source)
    }

    fn identity(&self, uid: u32, gid: u32) -> Result<Identity, IdentityError> {
        let UnixSocket { uids, gids, .. } = &self.place;
        let is_anybody = uids.is_empty() && gids.is_empty();
        if uid == OVERFLOW_ID || !(is_anybody || uids.contains(&uid) || gids.contains(&gid)) {
            return Err(IdentityError::NotAdmitted);
        }
        let name = |text: String| text.parse().map_err(|_| IdentityError::Name);
        let groups = if gid == OVERFLOW_ID { Vec::new() } else { vec![name(format!("group:unix:gid:{gid}"))?] };
        Ok(Identity::new(name(format!("unix:uid:{uid}"))?, groups, Lease::until(None)))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let path = &self.place.path;
        if fs::symlink_metadata(path).is_ok_and(|about| (about.dev(), about.ino()) == self.file)
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "the Unix socket could not be removed");
        }
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Its folder belongs to us or to root, and nobody else can write to it.
fn closed_folder(path: &Path) -> Result<(), UnixError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let about = fs::metadata(folder).map_err(|source| UnixError::System { path: path.to_owned(), source })?;
    let owner = [0, rustix::process::geteuid().as_raw()].contains(&about.uid());
    if owner && about.mode() & 0o022 == 0 { Ok(()) } else { Err(UnixError::Folder(folder.to_owned())) }
}

/// Removes a socket that nobody listens on.
fn make_room(path: &Path) -> Result<(), UnixError> {
    let failed = |source| UnixError::System { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(about) if !about.file_type().is_socket() => return Err(UnixError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    let (knocking, address) =
        (stream_socket().map_err(failed)?, SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?);
    match connect(&knocking, &address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed),
        // Full is in use too.
        Ok(()) | Err(Errno::AGAIN) => Err(UnixError::InUse(path.to_owned())),
        Err(errno) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn place(path: PathBuf) -> UnixSocket {
        UnixSocket { path, mode: 0o660, uids: Vec::new(), gids: Vec::new() }
    }

    #[tokio::test]
    async fn the_socket_has_its_mode_and_goes_with_its_listener() {
        let folder = folder();
        let path = folder.path().join("s");
        let bound = Bound::new(&place(path.clone())).expect("is made");
        assert_eq!(fs::metadata(&path).expect("is there").mode() & 0o777, 0o660);
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn one_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = folder();
        let path = folder.path().join("s");
        // Dropped without being removed, as by a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
        assert!(path.exists());
        let bound = Bound::new(&place(path.clone())).expect("takes its place");
        assert!(matches!(Bound::new(&place(path.clone())), Err(UnixError::InUse(_))));
        assert!(UnixStream::connect(&path).await.is_ok(), "it was left alone");
        drop(bound);
    }

    #[tokio::test]
    async fn what_is_not_ours_is_not_removed() {
        let folder = folder();
        let path = folder.path().join("s");
        fs::write(&path, "thesis").expect("writes");
        assert!(matches!(Bound::new(&place(path.clone())), Err(UnixError::NotASocket(_))));
        fs::remove_file(&path).expect("removes");
        let bound = Bound::new(&place(path.clone())).expect("is made");
        fs::remove_file(&path).expect("removes");
        fs::write(&path, "thesis").expect("writes");
        drop(bound);
        assert_eq!(fs::read_to_string(&path).expect("is there"), "thesis");
    }

    #[tokio::test]
    async fn a_folder_that_others_can_write_to_is_refused() {
        let folder = folder();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("permits");
        assert!(matches!(Bound::new(&place(folder.path().join("s"))), Err(UnixError::Folder(_))));
    }

    #[tokio::test]
    async fn the_kernel_says_who_the_peer_is() {
        let folder = folder();
        let path = folder.path().join("s");
        let bound = Bound::new(&place(path.clone())).expect("is made");
        let _client = UnixStream::connect(&path).await.expect("connects");
        let stream = bound.accept().await.expect("accepts");
        let (identity, source) = bound.identify(&stream);
        let identity = identity.expect("is known");
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        assert_eq!(identity.principal().as_str(), format!("unix:uid:{uid}"));
        assert_eq!(identity.groups()[0].as_str(), format!("group:unix:gid:{gid}"));
        assert_eq!(source, format!("unix:pid:{}", std::process::id()));
    }

    #[tokio::test]
    async fn only_those_who_are_named_may_come_and_nobody_never() {
        let folder = folder();
        let place = UnixSocket { uids: vec![7], gids: vec![9], ..place(folder.path().join("s")) };
        let bound = Bound::new(&place).expect("is made");
        for (uid, gid, admitted) in [(7, 1, true), (1, 9, true), (1, 1, false), (OVERFLOW_ID, 9, false)] {
            assert_eq!(bound.identity(uid, gid).is_ok(), admitted, "{uid} {gid}");
        }
        let anonymous_group = bound.identity(7, OVERFLOW_ID).expect("is known");
        assert!(anonymous_group.groups().is_empty());
    }
}
