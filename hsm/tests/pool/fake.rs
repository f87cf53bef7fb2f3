//! A worker without an HSM: speaks the protocol, and misbehaves as its script says.
//!
//! The script is [`Hello::faults`]: words of the form `name` or `name=number`. `times=n` lets a fault
//! happen n times over all workers of that lane's script; without it, it always happens. What was begun is
//! written to files in `state_dir`, one line each, so that a test can count.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Write as _,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde_bytes::ByteBuf;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::{
    KeySpec, KeyStatement, Material, Residency, SecretBytes,
    algorithms::Scheme,
    protocol::{
        Answer, Call, Capabilities, Damage, DataKeyForm, Fault, Generated, Hello, Kek, Operation, Output,
        PACKET_BYTES_MAX, Provision, Ready, Request, Response, Role, append_frame, read_frames,
    },
};

/// Set in the environment of workers, and nowhere else.
pub(crate) const MARK: &str = "STRONGROOM_FAKE_WORKER";
/// A digest that begins so kills the worker.
pub(crate) const POISON: u8 = 0xEE;

/// Serves standard input until it closes.
pub(crate) fn run() -> ! {
    // libtest's own streams are left alone: descriptor 0 is the socket.
    let stdin = std::io::stdin();
    let socket = stdin.as_fd();
    let mut worker = match greet(socket) {
        Some(worker) => worker,
        None => std::process::exit(0),
    };
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let Ok((_, length)) = recv(socket, &mut buffer[..], RecvFlags::empty()) else { std::process::exit(1) };
        if length == 0 {
            std::process::exit(0);
        }
        let calls: Vec<Call> = read_frames(&buffer[..length]).expect("the front speaks the protocol");
        assert!(length <= PACKET_BYTES_MAX, "the front sent {length} bytes");
        let mut packet = Vec::new();
        for call in calls {
            let answer = worker.answer(socket, call);
            let mut frame = Vec::new();
            append_frame(&mut frame, &answer);
            if packet.len() + frame.len() > PACKET_BYTES_MAX || worker.flushes {
                flush(socket, &mut packet);
            }
            packet.extend_from_slice(&frame);
        }
        flush(socket, &mut packet);
    }
}

fn flush(socket: BorrowedFd<'_>, packet: &mut Vec<u8>) {
    if !packet.is_empty() {
        if send(socket, packet, SendFlags::NOSIGNAL).is_err() {
            std::process::exit(1);
        }
        packet.clear();
    }
}

struct Worker {
    script: HashMap<String, u64>,
    state_dir: PathBuf,
    served: u64,
    canaries: u64,
    loaded: HashMap<Vec<u8>, KeySpec>,
    loaded_max: usize,
    forgotten: HashSet<Vec<u8>>,
    flushes: bool,
}

fn greet(socket: BorrowedFd<'_>) -> Option<Worker> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let (_, length) = recv(socket, &mut buffer[..], RecvFlags::empty()).ok()?;
    let mut calls: Vec<Call> = read_frames(&buffer[..length]).ok()?;
    let call = calls.pop()?;
    let Request::Hello(hello) = call.request else { panic!("the first call is Hello") };
    let script = script(&hello);
    note(&hello.state_dir, &format!("starts{}", lane(&script)), &std::process::id().to_string());
    let role_serves = matches!(hello.role, Role::Serve(_));
    let worker = Worker {
        script,
        state_dir: hello.state_dir.clone(),
        served: 0,
        canaries: 0,
        loaded: HashMap::new(),
        loaded_max: hello.cached_keys_max as usize,
        forgotten: HashSet::new(),
        flushes: hello.flush_us == 0,
    };
    let starts = lines(&hello.state_dir, &format!("starts{}", lane(&worker.script))).len() as u64;
    let again = starts > worker.script.get("workers").copied().unwrap_or(1);
    if worker.has("noise") {
        for n in 0..5000 {
            let line = format!("vendor library says {n}: {}\n", "blah ".repeat(20));
            std::io::stderr().write_all(line.as_bytes()).expect("the pipe is read");
        }
    }
    if worker.has("die-at-start") || (again && worker.has("die-at-restart")) {
        std::process::exit(3);
    }
    if worker.has("silent-at-start") {
        forever();
    }
    let refused = worker.has("pin-refused") || (again && worker.has("pin-refused-at-restart") && !pin_cured(&hello));
    let serial = if again && worker.has("other-token-at-restart") { "other" } else { "fake-1" };
    let ready = Ready { serial: serial.into(), library: "fake".into(), unwrap_template: true };
    let result = if refused { Err(Fault::PinRefused) } else { Ok(Response::Ready(ready)) };
    let mut packet = Vec::new();
    append_frame(&mut packet, &Answer { id: call.id, service_ns: 0, result });
    flush(socket, &mut packet);
    let _ = role_serves;
    (!refused).then_some(worker)
}

fn pin_cured(hello: &Hello) -> bool {
    hello.state_dir.join("cured").exists()
}

fn script(hello: &Hello) -> HashMap<String, u64> {
    let word = |word: &str| match word.split_once('=') {
        Some((name, number)) => (name.to_owned(), number.parse().expect("a number")),
        None => (word.to_owned(), 0),
    };
    hello.faults.split_whitespace().map(word).collect()
}

fn lane(script: &HashMap<String, u64>) -> String {
    script.get("lane").map(|lane| format!("-{lane}")).unwrap_or_default()
}

/// Adds a line to a file; a line this short is written at once, also by several processes.
fn note(dir: &Path, file: &str, line: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(dir.join(file)).expect("state_dir");
    file.write_all(format!("{line}\n").as_bytes()).expect("state_dir");
}

/// The lines of a file that workers wrote.
pub(crate) fn lines(dir: &Path, file: &str) -> Vec<String> {
    fs::read_to_string(dir.join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

impl Worker {
    fn has(&self, name: &str) -> bool {
        self.script.contains_key(name)
    }

    /// Whether the fault is due, and there are times left.
    fn is_due(&self, name: &str) -> bool {
        let due = self.script.get(name).is_some_and(|after| self.served >= *after);
        let Some(times) = self.script.get("times") else { return due };
        let take = |n| fs::File::create_new(self.state_dir.join(format!("{name}{}.{n}", lane(&self.script)))).is_ok();
        due && (0..*times).any(take)
    }

    fn answer(&mut self, socket: BorrowedFd<'_>, call: Call) -> Answer {
        let Call { id, request, .. } = call;
        if matches!(request, Request::Canary) {
            self.canaries += 1;
            let fails = self.script.get("canary-fails-after").is_some_and(|after| self.canaries > *after);
            let result = if fails { Err(module(Damage::Operation)) } else { Ok(Response::Done) };
            return Answer { id, service_ns: 1, result };
        }
        self.served += 1;
        self.begin(&request);
        self.misbehave(socket);
        if let Some(us) = self.script.get("slow-us") {
            std::thread::sleep(Duration::from_micros(*us));
        }
        if self.is_due("lie-id-after") {
            return Answer { id: id.wrapping_add(7), service_ns: 1, result: Ok(Response::Done) };
        }
        if self.is_due("lie-kind-after") {
            return Answer { id, service_ns: 1, result: Ok(Response::Checked(vec![true])) };
        }
        if self.is_due("login-lost-after") {
            return Answer { id, service_ns: 1, result: Err(module(Damage::Login)) };
        }
        Answer { id, service_ns: 1000, result: self.serve(request) }
    }

    fn begin(&self, request: &Request) {
        match request {
            Request::Generate(_) => note(&self.state_dir, "generates", "begun"),
            Request::Load { .. } => note(&self.state_dir, "warms", "begun"),
            Request::Operate { operation: Operation::Sign { input, .. }, .. } if self.has("ordered") => {
                let number: [u8; 4] = input.expose_secret()[4..8].try_into().expect("four bytes");
                note(&self.state_dir, "order", &u32::from_le_bytes(number).to_string());
            }
            Request::Operate { operation: Operation::Sign { input, .. }, .. }
                if self.has("poisonable") && input.expose_secret()[0] == POISON =>
            {
                note(&self.state_dir, "poisoned", "begun");
                std::process::exit(9);
            }
            _ => {}
        }
    }

    fn misbehave(&self, socket: BorrowedFd<'_>) {
        if self.is_due("crash-after") {
            std::process::exit(7);
        }
        if self.is_due("hang-after") {
            forever();
        }
        if self.is_due("garbage-after") {
            send(socket, &[0xff; 50], SendFlags::NOSIGNAL).expect("send");
        }
    }

    fn serve(&mut self, request: Request) -> Result<Response, Fault> {
        match request {
            Request::Operate { seal, row, operation } => self.operate(&seal, row, operation).map(Response::Output),
            Request::Load { seal, row } => self.load(&seal, &row).map(|()| Response::Done),
            Request::Generate(wanted) => Ok(Response::Generated(generated(wanted.spec, wanted.residency))),
            Request::Import { wanted, material } => {
                let mut imported = generated(wanted.spec, wanted.residency);
                if let Material::Public(spki) = material {
                    imported.public = spki;
                }
                Ok(Response::Generated(imported))
            }
            Request::ImportWrapped { wanted, .. } => Ok(Response::Generated(generated(wanted.spec, wanted.residency))),
            Request::MakeKek { id } => Ok(Response::Kek(Kek { id, blob: [0; 24], mark: [0; 16] })),
            Request::DestroyToken { .. } | Request::Prove { .. } => Ok(Response::Done),
            Request::Seal { forms } => {
                Ok(Response::Seals(forms.iter().map(|form| ByteBuf::from(seal_of(form))).collect()))
            }
            Request::CheckSeals { pairs } => {
                Ok(Response::Checked(pairs.iter().map(|(form, seal)| seal_of(form) == **seal).collect()))
            }
            Request::SignLog { text, .. } => Ok(Response::LogSignature(ByteBuf::from(signature(text.as_bytes(), 64)))),
            Request::Random { length } => Ok(Response::Random(SecretBytes::new(vec![4; length as usize]))),
            Request::Provision(provision) => match *provision {
                Provision::Probe => {
                    Ok(Response::Capabilities(Capabilities { library: "fake".into(), lines: Vec::new() }))
                }
                Provision::InitToken { .. } => Ok(Response::Done),
                _ => Err(Fault::Setup("the fake cannot".into())),
            },
            Request::Hello(_) | Request::Canary | Request::Renew { .. } => Err(Fault::Protocol),
        }
    }

    fn load(&mut self, seal: &[u8], row: &[u8]) -> Result<(), Fault> {
        if self.loaded.len() >= self.loaded_max {
            self.forgotten.extend(self.loaded.drain().map(|(seal, _)| seal));
        }
        let statement = KeyStatement::decode(row).map_err(|_| Fault::SealBroken)?;
        self.loaded.insert(seal.to_vec(), statement.spec);
        Ok(())
    }

    fn operate(&mut self, seal: &[u8], row: Option<ByteBuf>, operation: Operation) -> Result<Output, Fault> {
        if let Some(row) = row {
            self.load(seal, &row)?;
        }
        let spec = *self.loaded.get(seal).ok_or(Fault::KeyNotLoaded)?;
        Ok(match operation {
            Operation::Sign { algorithm, input } => {
                Output::Signature(ByteBuf::from(signature(input.expose_secret(), algorithm.output_bytes(spec))))
            }
            Operation::Verify { algorithm, input, signature: found } => {
                Output::Verified(*found == signature(input.expose_secret(), algorithm.output_bytes(spec)))
            }
            Operation::Encrypt { algorithm, plaintext, .. } => {
                assert_eq!(algorithm.scheme(), Scheme::AesGcm);
                let ciphertext = ByteBuf::from(masked(plaintext.expose_secret()));
                Output::Ciphertext { ciphertext, iv: ByteBuf::from(vec![1; 12]), tag: ByteBuf::from(vec![2; 16]) }
            }
            Operation::Decrypt { ciphertext, .. } => Output::Plaintext(SecretBytes::new(masked(&ciphertext))),
            Operation::DataKey { length_bytes, form, .. } => {
                let key = vec![3; length_bytes as usize];
                let ciphertext = ByteBuf::from(masked(&key));
                let (iv, tag) = (ByteBuf::from(vec![1; 12]), ByteBuf::from(vec![2; 16]));
                match form {
                    DataKeyForm::WrappedOnly => Output::Ciphertext { ciphertext, iv, tag },
                    DataKeyForm::PlainAndWrapped => Output::DataKey { key: SecretBytes::new(key), ciphertext, iv, tag },
                }
            }
        })
    }
}

fn module(damage: Damage) -> Fault {
    Fault::Module { function: "C_Sign".into(), code: "CKR_DEVICE_ERROR".into(), damage }
}

fn generated(spec: KeySpec, residency: Residency) -> Generated {
    let filled = |filled: bool| ByteBuf::from(if filled { vec![1; 40] } else { Vec::new() });
    let is_oct = spec.key_type().is_secret();
    Generated { blob: filled(residency == Residency::Wrapped), public: filled(!is_oct), check_value: filled(is_oct) }
}

/// The fake's seal of a form.
pub(crate) fn seal_of(form: &[u8]) -> Vec<u8> {
    Sha256::digest(form).to_vec()
}

/// The fake's signature of a digest.
pub(crate) fn signature(digest: &[u8], length: usize) -> Vec<u8> {
    digest.iter().copied().cycle().take(length).collect()
}

/// The fake's encryption, and decryption.
pub(crate) fn masked(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}
