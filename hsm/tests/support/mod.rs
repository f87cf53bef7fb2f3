//! Worker processes on fresh tokens, and what a test asks of them.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]

pub mod attack;
mod home;
mod subject;

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, ExitStatus},
    time::Duration,
};

use rustix::net::{RecvFlags, SendFlags};
use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Algorithm, KeyOps, KeyRow, KeySpec, KeyStatement, Residency, SecretBytes,
    protocol::{
        Answer, Call, Fault, Generated, Hello, Hierarchy, Moment, NewVersion, Operation, Output, PACKET_BYTES_MAX,
        Provision, Ready, Request, Response, ServiceKeys, append_frame, read_frames,
    },
};

pub use home::{Home, LABEL, PARAMETERS};
pub use subject::{Subject, can, can_make, can_use, holds_on, library, note};

/// The user PIN of every test token: as long as the software token of opencryptoki takes.
pub const PIN: &str = "4711-815";

/// What the log key signs.
pub const CHECKPOINT: &str = "strongroom/00ff\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nhead AAAA\n";

/// Where the module of this run is.
pub fn module() -> PathBuf {
    Subject::current().module().expect("SoftHSM 2.6.1 is installed (apt-get install softhsm2)")
}

/// A worker process.
pub struct Worker {
    child: Child,
    socket: OwnedFd,
    next: u32,
    /// By which key it signs for the log, once it serves.
    log_public: ByteBuf,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    /// A process with the other end of the socket as its standard input.
    fn new(child: Child, socket: OwnedFd) -> Self {
        Self { child, socket, next: 1, log_public: ByteBuf::new() }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends one packet as it is.
    pub fn send_packet(&mut self, packet: &[u8]) {
        // That the worker has ended shows when its answer is awaited.
        let _ = rustix::net::send(&self.socket, packet, SendFlags::NOSIGNAL);
    }

    /// The answers of one packet; `None` when the worker has ended.
    pub fn receive(&mut self) -> Option<Vec<Answer>> {
        let mut buffer = vec![0; PACKET_BYTES_MAX + 1];
        let (_, length) = rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::TRUNC).unwrap_or(((0), 0));
        assert!(length <= PACKET_BYTES_MAX, "a packet longer than agreed");
        (length > 0).then(|| read_frames(&buffer[..length]).unwrap())
    }

    /// A call with a number and a minute's time.
    pub fn frame(&mut self, request: Request) -> Call {
        self.next += 1;
        Call { id: self.next, deadline: Moment::now().after(Duration::from_secs(60)), request }
    }

    /// One call and its answer; `None` when the worker ended instead.
    pub fn try_call(&mut self, request: Request) -> Option<Result<Response, Fault>> {
        let call = self.frame(request);
        let mut packet = Vec::new();
        append_frame(&mut packet, &call);
        self.send_packet(&packet);
        let mut answers = self.receive()?;
        assert_eq!(answers.len(), 1);
        let answer = answers.remove(0);
        assert_eq!(answer.id, call.id);
        Some(answer.result)
    }

    /// One call and its answer.
    pub fn call(&mut self, request: Request) -> Result<Response, Fault> {
        self.try_call(request).expect("the worker answers")
    }

    /// How the worker ended; the front's end of the socket is closed first.
    pub fn end(mut self) -> ExitStatus {
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write).unwrap();
        self.child.wait().unwrap()
    }

    pub fn hello(&mut self, hello: Hello) -> Result<Ready, Fault> {
        if let strongroom_hsm::protocol::Role::Serve(keys) = &hello.role {
            self.log_public = keys.log_public.clone();
        }
        match self.call(Request::Hello(Box::new(hello)))? {
            Response::Ready(ready) => Ok(ready),
            other => panic!("{other:?}"),
        }
    }

    pub fn init_token(&mut self, home: &Home) -> Result<(), Fault> {
        self.provision(Provision::InitToken { so_pin_file: home.path("so-pin") }).map(|_| ())
    }

    pub fn provision(&mut self, provision: Provision) -> Result<Response, Fault> {
        self.call(Request::Provision(Box::new(provision)))
    }

    pub fn create_hierarchy(&mut self, recovery: Vec<ByteBuf>) -> Result<Hierarchy, Fault> {
        match self.provision(Provision::CreateHierarchy { recovery })? {
            Response::Hierarchy(hierarchy) => Ok(*hierarchy),
            other => panic!("{other:?}"),
        }
    }

    pub fn sign_log(&mut self, text: &str) -> Result<Vec<u8>, Fault> {
        self.sign_log_by(&self.log_public.clone(), text)
    }

    pub fn sign_log_by(&mut self, public: &[u8], text: &str) -> Result<Vec<u8>, Fault> {
        let public = ByteBuf::from(public.to_vec());
        match self.call(Request::SignLog { public, text: text.to_owned() })? {
            Response::LogSignature(signature) => Ok(signature.into_vec()),
            other => panic!("{other:?}"),
        }
    }

    pub fn generate(&mut self, spec: KeySpec, residency: Residency, version: [u8; 16]) -> Result<Generated, Fault> {
        self.make(NewVersion::new(spec, residency, version))
    }

    pub fn make(&mut self, wanted: NewVersion) -> Result<Generated, Fault> {
        match self.call(Request::Generate(wanted))? {
            Response::Generated(generated) => Ok(generated),
            other => panic!("{other:?}"),
        }
    }

    /// A new key with all its operations, sealed.
    pub fn key(&mut self, spec: KeySpec, residency: Residency, version: [u8; 16]) -> KeyRow {
        self.key_as(NewVersion::new(spec, residency, version))
    }

    /// The same, under what is wanted.
    pub fn key_as(&mut self, wanted: NewVersion) -> KeyRow {
        let generated = self.make(wanted).unwrap();
        let mut statement = statement(wanted.spec, wanted.residency, wanted.version);
        statement.kek = wanted.kek.map(|kek| kek.id);
        statement.blob = generated.blob.into_vec();
        statement.public = generated.public.into_vec();
        statement.check_value = generated.check_value.into_vec();
        self.sealed(statement)
    }

    /// A statement under its seal.
    pub fn sealed(&mut self, statement: KeyStatement) -> KeyRow {
        let form = ByteBuf::from(statement.encode());
        match self.call(Request::Seal { forms: vec![form] }).unwrap() {
            Response::Seals(seals) => KeyRow::new(statement, seals[0].as_slice().try_into().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub fn operate(&mut self, row: &KeyRow, operation: Operation) -> Result<Output, Fault> {
        let (seal, canonical) = (ByteBuf::from(row.seal), ByteBuf::from(row.canonical.to_vec()));
        match self.call(Request::Operate { seal, row: Some(canonical), operation })? {
            Response::Output(output) => Ok(output),
            other => panic!("{other:?}"),
        }
    }

    pub fn sign(&mut self, row: &KeyRow, algorithm: Algorithm, input: &[u8]) -> Result<Vec<u8>, Fault> {
        match self.operate(row, Operation::Sign { algorithm, input: input.to_vec().into() })? {
            Output::Signature(signature) => Ok(signature.into_vec()),
            other => panic!("{other:?}"),
        }
    }

    pub fn verify(
        &mut self,
        row: &KeyRow,
        algorithm: Algorithm,
        input: &[u8],
        signature: &[u8],
    ) -> Result<bool, Fault> {
        let (input, signature) = (input.to_vec().into(), ByteBuf::from(signature));
        match self.operate(row, Operation::Verify { algorithm, input, signature })? {
            Output::Verified(verified) => Ok(verified),
            other => panic!("{other:?}"),
        }
    }

    /// Ciphertext, IV and tag.
    pub fn encrypt(
        &mut self,
        row: &KeyRow,
        algorithm: Algorithm,
        purpose: KeyOps,
        plaintext: &[u8],
        additional_data: &[u8],
    ) -> Result<Sealed, Fault> {
        self.encrypt_under(row, algorithm, purpose, plaintext, &[], additional_data)
    }

    /// The same under an IV of the caller's.
    pub fn encrypt_under(
        &mut self,
        row: &KeyRow,
        algorithm: Algorithm,
        purpose: KeyOps,
        plaintext: &[u8],
        iv: &[u8],
        additional_data: &[u8],
    ) -> Result<Sealed, Fault> {
        let plaintext = SecretBytes::new(plaintext.to_vec());
        let (iv, additional_data) = (ByteBuf::from(iv), ByteBuf::from(additional_data));
        match self.operate(row, Operation::Encrypt { algorithm, purpose, plaintext, iv, additional_data })? {
            Output::Ciphertext { ciphertext, iv, tag } => {
                Ok(Sealed { ciphertext: ciphertext.into_vec(), iv: iv.into_vec(), tag: tag.into_vec() })
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn decrypt(
        &mut self,
        row: &KeyRow,
        algorithm: Algorithm,
        purpose: KeyOps,
        sealed: &Sealed,
        additional_data: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let Sealed { ciphertext, iv, tag } = sealed.clone();
        let additional_data = ByteBuf::from(additional_data);
        let (ciphertext, iv, tag) = (ciphertext.into(), iv.into(), tag.into());
        match self.operate(row, Operation::Decrypt { algorithm, purpose, ciphertext, iv, tag, additional_data })? {
            Output::Plaintext(plaintext) => Ok(plaintext.into_exposed()),
            other => panic!("{other:?}"),
        }
    }
}

/// What an encryption gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub ciphertext: Vec<u8>,
    pub iv: Vec<u8>,
    pub tag: Vec<u8>,
}

/// A statement with every operation, without key.
pub fn statement(spec: KeySpec, residency: Residency, version: [u8; 16]) -> KeyStatement {
    KeyStatement {
        vault: "vault".to_owned(),
        key: "key".to_owned(),
        version,
        spec,
        ops: spec.possible_ops(),
        enabled: true,
        not_before: None,
        expires: None,
        residency,
        blob: Vec::new(),
        public: Vec::new(),
        check_value: Vec::new(),
        created: 1,
        revision: 1,
        rest: Vec::new(),
        kek: None,
    }
}

/// In a child: one line for [`Home::run_child`].
#[allow(clippy::print_stdout, reason = "the child's way to answer")]
pub fn answer(text: &str) {
    println!("\nanswer:{text}");
}

/// Whether a log signature is right, by RustCrypto, which reads it as any verifier of signed notes would.
pub fn log_signature_is_right(public: &[u8], text: &str, signature: &[u8]) -> bool {
    use p256::{ecdsa::signature::Verifier as _, pkcs8::DecodePublicKey as _};
    if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_der(public) {
        let signature = ed25519_dalek::Signature::from_slice(signature);
        return signature.is_ok_and(|signature| key.verify_strict(text.as_bytes(), &signature).is_ok());
    }
    let key = p256::ecdsa::VerifyingKey::from_public_key_der(public).unwrap();
    let signature = p256::ecdsa::DerSignature::try_from(signature);
    signature.is_ok_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
}

/// Hexadecimal, for the answers of children.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of [`hex`].
pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Service keys that fit no token.
pub fn foreign_keys() -> ServiceKeys {
    let [sealing, data, canary, log_public] = [vec![1; 40], vec![2; 40], vec![3; 32], vec![4; 44]].map(Into::into);
    ServiceKeys { sealing, data, canary, log_public, ..ServiceKeys::default() }
}
