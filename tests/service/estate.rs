//! An estate of its own for each test: a fresh token, store and log in a temporary folder.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeySize, PrivateDecryptingKey},
};
use der::{Decode as _, EncodePem as _, pem::LineEnding};
use sha2::{Digest as _, Sha256};
use strongroom::{
    audit::{Log, OpenError, Options},
    bearer::Issued,
    model::{
        Clock, Identity, KeySpec, MaxStaleness, NetworkRules, Origin, Principal, ReplicaName, Residency, RoleId,
        SystemClock, Tags, VaultAuthorization,
    },
    observe::trace::Trace,
    service::{
        Caller, InForce, NewInstance, NewKey, NewVault, Parts, Service, ServiceError, Settings, Traffic, initialise,
        quota::Allowances, replicas::Seat, root::RecoveryKeys,
    },
    store::{Store, sqlite::SqliteStore},
};
use strongroom_hsm::{
    KeyRow, Pool, Profile,
    pool::{Provisioned, provision},
    profile::{Sandbox, TokenName},
    protocol::{Hierarchy, Moment, Provision, ServiceKeys},
};
use tempfile::TempDir;

/// Everything an instance stands on.
pub(crate) struct Estate {
    dir: PathBuf,
    service_keys: ServiceKeys,
    /// What the service is opened with.
    pub(crate) allowances: Allowances,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    /// Removes the folder when the test ends.
    _folder: Option<TempDir>,
}

const INSTANCE: [u8; 16] = [0x5a; 16];

/// The administrator of every estate.
pub(crate) fn caller() -> Caller {
    called("spiffe://test.invalid/admin")
}

/// A caller of that name.
pub(crate) fn called(principal: &str) -> Caller {
    Caller {
        identity: Arc::new(Identity::alone(principal.parse().expect("a principal"))),
        origin: Origin::Local,
        source: "test".to_owned(),
        request: "r".to_owned(),
        deadline: Moment::now().after(Duration::from_secs(30)),
        traffic: Traffic::Single,
        in_force: InForce::default(),
        trace: Trace::default(),
    }
}

/// A key that is wanted.
pub(crate) fn key(name: &str, spec: KeySpec) -> NewKey {
    NewKey {
        vault: "dev".parse().expect("right"),
        name: name.parse().expect("right"),
        spec,
        ops: None,
        enabled: true,
        not_before: None,
        expires: None,
        tags: Tags::default(),
        residency: Residency::Wrapped,
        must_not_exist: false,
    }
}

/// Debian's SoftHSM.
fn module() -> PathBuf {
    let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("SoftHSM: apt-get install softhsm2")
}

impl Estate {
    /// A new instance with a vault `dev`.
    pub(crate) async fn new() -> Self {
        Self::with(Vec::new()).await
    }

    /// The same, whose root is in escrow for a recovery key, which lies where it belongs.
    pub(crate) async fn escrowed() -> (Self, RecoveryKeys) {
        let (keys, pem) = recovery_key();
        let mut estate = Self::with(keys.0.clone()).await;
        let file = estate.dir.join("recovery.pem");
        write_secret(&file, &pem);
        estate.settings.recovery_key_file = Some(file);
        (estate, keys)
    }

    async fn with(recovery: Vec<([u8; 32], Vec<u8>)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().to_owned();
        for folder in ["tokens", "state"] {
            fs::create_dir(dir.join(folder)).expect("a folder");
        }
        let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\n", dir.join("tokens").display());
        fs::write(dir.join("softhsm2.conf"), conf).expect("a file");
        for (name, pin) in [("pin", "1234"), ("so-pin", "5678")] {
            write_secret(&dir.join(name), pin);
        }
        let mut estate = Self::in_folder(dir, Some(folder));
        let (fingerprints, spkis): (Vec<_>, Vec<_>) = recovery.into_iter().unzip();
        let hierarchy = estate.provision(spkis).await;
        estate.service_keys = hierarchy.service_keys.clone();
        estate.initialise(&hierarchy, fingerprints).await;
        let service = estate.open().await.expect("opens");
        let vault = NewVault {
            name: "dev".parse().expect("right"),
            tags: Tags::default(),
            retention_days: 90,
            purge_protection: false,
            padding_decryption_allowed: false,
            max_staleness: MaxStaleness::default(),
            own_kek: false,
            network: NetworkRules::default(),
            authorization: VaultAuthorization::Roles,
        };
        service.create_vault(&caller(), vault, Default::default()).await.expect("a vault");
        service.close().await.expect("closes");
        estate
    }

    fn in_folder(dir: PathBuf, folder: Option<TempDir>) -> Self {
        Self {
            dir,
            service_keys: ServiceKeys::default(),
            allowances: Allowances::default(),
            settings: Settings::default(),
            clock: Arc::new(SystemClock),
            _folder: folder,
        }
    }

    /// The instance that another process has made in that folder and keeps.
    pub(crate) async fn existing(dir: PathBuf) -> Self {
        let mut estate = Self::in_folder(dir, None);
        let instance = estate.store().await.instance().await.expect("reads").expect("an instance");
        estate.service_keys = instance.unchecked().service_keys.clone();
        estate
    }

    /// The folder of it all.
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.dir
    }

    /// The newest version of a key, as workers read it.
    pub(crate) async fn key_row(&self, name: &str) -> KeyRow {
        let (vault, name) = ("dev".parse().expect("right"), name.parse().expect("right"));
        let store = self.store().await;
        let key = store.key(&vault, &name).await.expect("reads").expect("a key");
        let version = store.version(&vault, key.unchecked().current).await.expect("reads").expect("a version");
        let (row, seal) = version.into_unchecked();
        KeyRow::new(row.statement(), seal)
    }

    /// Lanes with a medium worker for each core.
    pub(crate) async fn measured_pool(&self) -> Pool {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let profile = Profile { lanes: Profile::softhsm_lanes(cores), ..self.profile() };
        Pool::start(profile, self.service_keys.clone()).await.expect("workers")
    }

    async fn provision(&self, recovery: Vec<Vec<u8>>) -> Hierarchy {
        let so_pin_file = self.dir.join("so-pin");
        let recovery = recovery.into_iter().map(Into::into).collect();
        let requests = vec![Provision::InitToken { so_pin_file }, Provision::CreateHierarchy { recovery }];
        let mut answers = provision(&self.profile(), requests).await.expect("provisions");
        match answers.pop() {
            Some(Provisioned::Hierarchy(hierarchy)) => hierarchy,
            _ => panic!("a hierarchy"),
        }
    }

    async fn initialise(&self, hierarchy: &Hierarchy, recovery_keys: Vec<[u8; 32]>) {
        let (store, pool) = (self.store().await, self.pool().await);
        let (log, _) = self.log();
        let log = Arc::new(log);
        let new = NewInstance {
            id: INSTANCE,
            development: false,
            token_label: "test".to_owned(),
            recovery_keys,
            administrator: caller().principal().clone(),
            replica: ReplicaName::only(),
        };
        initialise(&store, &log, &pool, hierarchy, new, &SystemClock).await.expect("initialises");
        log.close().await.expect("closes");
        store.close().await;
    }

    /// Opens the service as `serve` does.
    pub(crate) async fn open(&self) -> Result<Arc<Service>, ServiceError> {
        self.open_with(self.profile()).await
    }

    /// Opens the service on workers of that profile.
    pub(crate) async fn open_with(&self, profile: Profile) -> Result<Arc<Service>, ServiceError> {
        let (log, recovered) = self.log();
        let store = self.store().await;
        // As `serve` does: by the row, which may name another root than the first.
        let instance = store.instance().await.expect("reads").expect("an instance");
        let pool = Pool::start(profile, instance.unchecked().worker_keys()).await.expect("workers");
        let seat = Seat::find(&*store, &ReplicaName::only()).await.expect("a seat");
        Service::open(Parts {
            allowances: self.allowances.clone(),
            store,
            seat,
            log: Arc::new(log),
            recovered,
            pool,
            issued: Arc::new(Issued::new("urn:strongroom:test")),
            clock: Arc::clone(&self.clock),
            settings: self.settings.clone(),
            backup: None,
        })
        .await
    }

    fn log(&self) -> (Log, strongroom::audit::Recovered) {
        let instance: String = INSTANCE.iter().map(|byte| format!("{byte:02x}")).collect();
        let dir = self.dir.join("log");
        // A worker that another test is starting holds our descriptors between fork and exec.
        for _ in 0..100 {
            match Log::open(&dir, Options::default(), &instance) {
                Err(OpenError::Locked(_)) => std::thread::sleep(Duration::from_millis(20)),
                opened => return opened.expect("a log"),
            }
        }
        panic!("the log stays locked")
    }

    /// The store.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.database()).await.expect("a store"))
    }

    pub(crate) async fn pool(&self) -> Pool {
        Pool::start(self.profile(), self.service_keys.clone()).await.expect("workers")
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("store.sqlite")
    }

    /// Loses the log.
    pub(crate) fn lose_log(&self) {
        fs::remove_dir_all(self.dir.join("log")).expect("removes");
    }

    /// The whole log.
    pub(crate) fn log_text(&self) -> String {
        let mut files: Vec<PathBuf> = fs::read_dir(self.dir.join("log/journal"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        files.sort();
        files.iter().map(|path| fs::read_to_string(path).expect("text")).collect()
    }

    /// SoftHSM on this estate's token.
    pub(crate) fn profile(&self) -> Profile {
        let conf = self.dir.join("softhsm2.conf");
        Profile {
            module: module(),
            module_parameters: None,
            environment: BTreeMap::from([("SOFTHSM2_CONF".to_owned(), conf.display().to_string())]),
            token: TokenName { label: "test".to_owned(), serial: None },
            pin_file: self.dir.join("pin"),
            state_dir: self.dir.join("state"),
            sync_dirs: vec![self.dir.join("tokens")],
            sandbox: Sandbox::Strict,
            lanes: Profile::softhsm_lanes(1),
            cached_keys_max: 1000,
            loads_max: 1_000_000,
            canary_every: Duration::from_secs(5),
            worker_program: PathBuf::from(env!("CARGO_BIN_EXE_strongroom")),
            worker_arguments: vec!["hsm-worker".to_owned()],
            faults: BTreeMap::new(),
        }
    }
}

fn write_secret(path: &std::path::Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
}

/// A recovery key: its public half, and its private one in PEM.
pub(crate) fn recovery_key() -> (RecoveryKeys, String) {
    let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).expect("a key");
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().expect("DER");
    let pkcs8: Pkcs8V1Der<'_> = key.as_der().expect("DER");
    let info = pkcs8::PrivateKeyInfoRef::from_der(pkcs8.as_ref()).expect("PKCS#8");
    let pem = info.to_pem(LineEnding::LF).expect("PEM");
    (RecoveryKeys(vec![(Sha256::digest(spki.as_ref()).into(), spki.as_ref().to_vec())]), pem.to_string())
}

/// The id of a built-in role.
#[allow(dead_code, reason = "for tests that assign roles")]
pub(crate) fn role(name: &str) -> RoleId {
    strongroom::access::roles::built_in_by_name(name).expect("a built-in role").id
}

/// A principal's name.
#[allow(dead_code, reason = "for tests that assign roles")]
pub(crate) fn principal(name: &str) -> Principal {
    name.parse().expect("a principal")
}
