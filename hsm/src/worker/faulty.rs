//! The token that fails on script. [`super::faults`] says how a script is written.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write as _,
    path::PathBuf,
    time::Duration,
};

use cryptoki_sys::{self as sys, CK_ATTRIBUTE_TYPE, CK_MECHANISM_TYPE};

use super::{
    code::{Code, Failed, Function},
    token::{Attribute, Block, Direction, Handle, Mechanism, Outcome, Token},
};
use crate::secret::SecretBytes;

/// What a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Login,
    Find,
    Attribute,
    Create,
    Destroy,
    Generate,
    Wrap,
    Unwrap,
    Sign,
    Mac,
    Verify,
    Encrypt,
    Decrypt,
    Block,
    Random,
}

impl Call {
    const NAMES: [(&'static str, Self, Function); 15] = [
        ("login", Self::Login, Function::Login),
        ("find", Self::Find, Function::FindObjects),
        ("attribute", Self::Attribute, Function::GetAttributeValue),
        ("create", Self::Create, Function::CreateObject),
        ("destroy", Self::Destroy, Function::DestroyObject),
        ("generate", Self::Generate, Function::GenerateKey),
        ("wrap", Self::Wrap, Function::WrapKey),
        ("unwrap", Self::Unwrap, Function::UnwrapKey),
        ("sign", Self::Sign, Function::Sign),
        ("mac", Self::Mac, Function::Sign),
        ("verify", Self::Verify, Function::Verify),
        ("encrypt", Self::Encrypt, Function::Encrypt),
        ("decrypt", Self::Decrypt, Function::Decrypt),
        ("block", Self::Block, Function::EncryptUpdate),
        ("random", Self::Random, Function::GenerateRandom),
    ];

    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, ..)| *known == name).map(|(_, call, _)| call)
    }

    fn function(self) -> Function {
        Self::NAMES.into_iter().find(|(_, call, _)| *call == self).map_or(Function::Sign, |(.., function)| function)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    Fail(Code),
    Delay(Duration),
    Hang,
    Crash,
    Wrong,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    call: Call,
    /// Counted from one; every call when absent.
    nth: Option<u64>,
    /// Counted until the worker is ready, not from then on.
    at_start: bool,
    after: bool,
    effect: Effect,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Script {
    rules: Vec<Rule>,
    renumber: bool,
    count_logins: Option<PathBuf>,
}

impl Script {
    fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        for line in text.split(';').map(str::trim).filter(|line| !line.is_empty()) {
            let unreadable = || format!("the fault rule {line:?} cannot be read");
            let (left, right) = line.split_once('=').ok_or_else(unreadable)?;
            if (left, right) == ("handles", "renumber") {
                script.renumber = true;
            } else if let ("login", Some(path)) = (left, right.strip_prefix("count:")) {
                script.count_logins = Some(PathBuf::from(path));
            } else {
                script.rules.push(Rule::parse(left, right).ok_or_else(unreadable)?);
            }
        }
        Ok(script)
    }
}

impl Rule {
    fn parse(left: &str, right: &str) -> Option<Self> {
        let (at_start, left) = match left.strip_prefix("start.") {
            Some(rest) => (true, rest),
            None => (left.starts_with("login"), left),
        };
        let (name, nth) = match left.split_once('#') {
            Some((name, nth)) => (name, Some(nth.parse().ok()?)),
            None => (left, None),
        };
        let (after, right) = match right.strip_prefix("after:") {
            Some(rest) => (true, rest),
            None => (false, right),
        };
        let effect = match right.split_once(':') {
            Some(("fail", code)) => Effect::Fail(Code::from_name(code)?),
            Some(("delay", pause)) => Effect::Delay(Duration::from_millis(pause.strip_suffix("ms")?.parse().ok()?)),
            Some(_) => return None,
            None => match right {
                "hang" => Effect::Hang,
                "crash" => Effect::Crash,
                "wrong" => Effect::Wrong,
                _ => return None,
            },
        };
        Some(Self { call: Call::from_name(name)?, nth, at_start, after, effect })
    }
}

/// Handles as the worker sees them: the smallest free numbers.
#[derive(Default)]
struct Numbers {
    inner: BTreeMap<u64, Handle>,
    outer: HashMap<Handle, u64>,
}

impl Numbers {
    fn give(&mut self, inner: Handle) -> Handle {
        if let Some(outer) = self.outer.get(&inner) {
            return Handle(*outer);
        }
        let mut outer = 1;
        for taken in self.inner.keys() {
            if *taken != outer {
                break;
            }
            outer += 1;
        }
        self.inner.insert(outer, inner);
        self.outer.insert(inner, outer);
        Handle(outer)
    }

    fn take(&mut self, outer: Handle) {
        if let Some(inner) = self.inner.remove(&outer.0) {
            self.outer.remove(&inner);
        }
    }
}

/// A token behind a script.
pub(crate) struct Faulty<T> {
    inner: T,
    script: Script,
    numbers: Numbers,
    counts: BTreeMap<(bool, Call), u64>,
    started: bool,
}

impl<T: Token> Faulty<T> {
    /// Puts a token behind a script.
    ///
    /// # Errors
    /// In words, when the script cannot be read.
    pub(crate) fn new(inner: T, script: &str) -> Result<Self, String> {
        let script = Script::parse(script)?;
        Ok(Self { inner, script, numbers: Numbers::default(), counts: BTreeMap::new(), started: false })
    }

    fn give(&mut self, inner: Handle) -> Handle {
        if self.script.renumber { self.numbers.give(inner) } else { inner }
    }

    fn seek(&self, outer: Handle) -> Handle {
        if !self.script.renumber {
            return outer;
        }
        // Handle 0 is invalid in every module (CK_INVALID_HANDLE).
        self.numbers.inner.get(&outer.0).copied().unwrap_or(Handle(sys::CK_INVALID_HANDLE))
    }

    /// Runs a call with what the script says of it. `bend` makes its result wrong.
    fn run<R>(
        &mut self,
        call: Call,
        run: impl FnOnce(&mut T) -> Outcome<R>,
        bend: impl FnOnce(Outcome<R>) -> Outcome<R>,
    ) -> Outcome<R> {
        let at_start = !self.started;
        let count = self.counts.entry((at_start, call)).or_default();
        *count += 1;
        let count = *count;
        let meant =
            |rule: &&Rule| rule.call == call && rule.at_start == at_start && rule.nth.is_none_or(|nth| nth == count);
        let rules: Vec<Rule> = self.script.rules.iter().filter(meant).cloned().collect();
        let (after, before): (Vec<Rule>, Vec<Rule>) = rules.into_iter().partition(|rule| rule.after);
        before.iter().try_for_each(apply)?;
        let outcome = run(&mut self.inner);
        after.iter().try_for_each(apply)?;
        let wrong = before.iter().chain(&after).any(|rule| rule.effect == Effect::Wrong);
        if wrong { bend(outcome) } else { outcome }
    }
}

fn apply(rule: &Rule) -> Outcome<()> {
    match &rule.effect {
        Effect::Fail(code) => Err(Failed { function: rule.call.function(), code: *code }),
        Effect::Delay(pause) => {
            std::thread::sleep(*pause);
            Ok(())
        }
        Effect::Hang => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Effect::Crash => std::process::abort(),
        Effect::Wrong => Ok(()),
    }
}

fn as_is<R>(outcome: Outcome<R>) -> Outcome<R> {
    outcome
}

fn flipped(outcome: Outcome<Vec<u8>>) -> Outcome<Vec<u8>> {
    outcome.map(|mut bytes| {
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        bytes
    })
}

impl<T: Token> Token for Faulty<T> {
    fn login(&mut self, pin: &SecretBytes) -> Outcome<()> {
        if let Some(path) = &self.script.count_logins
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            let _ = writeln!(file, "login by {}", std::process::id());
        }
        self.run(Call::Login, |inner| inner.login(pin), as_is)
    }

    fn started(&mut self) {
        self.started = true;
        self.inner.started();
    }

    fn finalize(&mut self) {
        self.inner.finalize();
    }

    fn mechanisms(&mut self) -> Outcome<Vec<CK_MECHANISM_TYPE>> {
        self.inner.mechanisms()
    }

    fn find(&mut self, template: &[Attribute<'_>]) -> Outcome<Vec<Handle>> {
        let found = self.run(Call::Find, |inner| inner.find(template), as_is)?;
        Ok(found.into_iter().map(|handle| self.give(handle)).collect())
    }

    fn attribute(&mut self, object: Handle, kind: CK_ATTRIBUTE_TYPE) -> Outcome<Vec<u8>> {
        let object = self.seek(object);
        self.run(Call::Attribute, |inner| inner.attribute(object, kind), flipped)
    }

    fn create(&mut self, template: &[Attribute<'_>]) -> Outcome<Handle> {
        let made = self.run(Call::Create, |inner| inner.create(template), as_is)?;
        Ok(self.give(made))
    }

    fn destroy(&mut self, object: Handle) -> Outcome<()> {
        let inner = self.seek(object);
        self.numbers.take(object);
        self.run(Call::Destroy, |token| token.destroy(inner), as_is)
    }

    fn generate_key(&mut self, mechanism: Mechanism<'_>, template: &[Attribute<'_>]) -> Outcome<Handle> {
        let made = self.run(Call::Generate, |inner| inner.generate_key(mechanism, template), as_is)?;
        Ok(self.give(made))
    }

    fn generate_pair(
        &mut self,
        mechanism: Mechanism<'_>,
        public: &[Attribute<'_>],
        private: &[Attribute<'_>],
    ) -> Outcome<(Handle, Handle)> {
        let run = |inner: &mut T| inner.generate_pair(mechanism, public, private);
        let (public, private) = self.run(Call::Generate, run, as_is)?;
        Ok((self.give(public), self.give(private)))
    }

    fn wrap(&mut self, mechanism: Mechanism<'_>, wrapping: Handle, key: Handle) -> Outcome<Vec<u8>> {
        let (wrapping, key) = (self.seek(wrapping), self.seek(key));
        self.run(Call::Wrap, |inner| inner.wrap(mechanism, wrapping, key), flipped)
    }

    fn unwrap(
        &mut self,
        mechanism: Mechanism<'_>,
        unwrapping: Handle,
        blob: &[u8],
        template: &[Attribute<'_>],
    ) -> Outcome<Handle> {
        let unwrapping = self.seek(unwrapping);
        let made = self.run(Call::Unwrap, |inner| inner.unwrap(mechanism, unwrapping, blob, template), as_is)?;
        Ok(self.give(made))
    }

    fn sign(&mut self, mechanism: Mechanism<'_>, key: Handle, data: &[u8], bytes_max: usize) -> Outcome<Vec<u8>> {
        let key = self.seek(key);
        let call = if matches!(mechanism, Mechanism::Hmac(_)) { Call::Mac } else { Call::Sign };
        self.run(call, |inner| inner.sign(mechanism, key, data, bytes_max), flipped)
    }

    fn verify(&mut self, mechanism: Mechanism<'_>, key: Handle, data: &[u8], signature: &[u8]) -> Outcome<()> {
        let key = self.seek(key);
        let bend = |outcome: Outcome<()>| match outcome {
            Ok(()) => Err(Failed { function: Function::Verify, code: Code(sys::CKR_SIGNATURE_INVALID) }),
            Err(_) => Ok(()),
        };
        self.run(Call::Verify, |inner| inner.verify(mechanism, key, data, signature), bend)
    }

    fn encrypt(
        &mut self,
        mechanism: Mechanism<'_>,
        key: Handle,
        plaintext: &[u8],
        bytes_max: usize,
    ) -> Outcome<Vec<u8>> {
        let key = self.seek(key);
        self.run(Call::Encrypt, |inner| inner.encrypt(mechanism, key, plaintext, bytes_max), flipped)
    }

    fn decrypt(
        &mut self,
        mechanism: Mechanism<'_>,
        key: Handle,
        ciphertext: &[u8],
        bytes_max: usize,
    ) -> Outcome<SecretBytes> {
        let key = self.seek(key);
        let run = |inner: &mut T| inner.decrypt(mechanism, key, ciphertext, bytes_max);
        let bend =
            |outcome: Outcome<SecretBytes>| flipped(outcome.map(SecretBytes::into_exposed)).map(SecretBytes::new);
        self.run(Call::Decrypt, run, bend)
    }

    fn blocks_begin(&mut self, direction: Direction, key: Handle) -> Outcome<()> {
        let key = self.seek(key);
        self.inner.blocks_begin(direction, key)
    }

    fn block(&mut self, direction: Direction, block: &mut Block) -> Outcome<()> {
        self.run(Call::Block, |inner| inner.block(direction, block), as_is)
    }

    fn blocks_end(&mut self, direction: Direction) -> Outcome<()> {
        self.inner.blocks_end(direction)
    }

    fn random(&mut self, bytes: &mut [u8]) -> Outcome<()> {
        self.run(Call::Random, |inner| inner.random(bytes), as_is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_is_written() {
        let text = "sign#3=fail:CKR_DEVICE_ERROR; unwrap#1=delay:200ms;encrypt#5=hang; generate=after:crash;
            verify=wrong; handles=renumber; login=count:/tmp/logins; start.mac#1=wrong; login=fail:CKR_PIN_LOCKED";
        let script = Script::parse(text).expect("reads");
        assert!(script.renumber);
        assert_eq!(script.count_logins, Some(PathBuf::from("/tmp/logins")));
        assert_eq!(script.rules.len(), 7);
        let first = &script.rules[0];
        assert_eq!((first.call, first.nth, first.after), (Call::Sign, Some(3), false));
        assert_eq!(first.effect, Effect::Fail(Code(sys::CKR_DEVICE_ERROR)));
        assert!(script.rules[3].after && !script.rules[3].at_start);
        assert!(script.rules[5].at_start && script.rules[6].at_start);
    }

    #[test]
    fn an_unreadable_script_is_refused() {
        for text in ["sign", "sign=", "sign=explode", "dance=hang", "sign#x=hang", "sign=fail:CKR_NOPE", "a=delay:1s"] {
            assert!(Script::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_destroyed_objects_number_is_given_again() {
        let mut numbers = Numbers::default();
        assert_eq!((numbers.give(Handle(70)), numbers.give(Handle(80))), (Handle(1), Handle(2)));
        assert_eq!(numbers.give(Handle(70)), Handle(1));
        numbers.take(Handle(1));
        assert_eq!(numbers.give(Handle(90)), Handle(1));
    }
}
