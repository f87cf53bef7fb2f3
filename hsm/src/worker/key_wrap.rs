//! AES key wrap (RFC 3394) of a caller's bytes, block by block through the HSM's AES.
//!
//! ```text
//! wrap    A = IV; for j in 0..6, i in 1..=n: B = AES(A | R[i]); A = MSB64(B) xor t; R[i] = LSB64(B); t = n j + i
//! unwrap  the same backwards with the inverse cipher; right only if A is the IV in the end
//! ```
//!
//! `C_WrapKey` wraps objects, not bytes: making an object for each call leaks 241 bytes of SoftHSM, and it
//! zero-pads what it should refuse. One `C_EncryptInit(AES_ECB)` and 6n updates take 11 us for 32 bytes.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::token::{Block, Direction, Handle, Outcome, Token};
use crate::secret::SecretBytes;

/// RFC 3394 section 2.2.3.1.
const IV: [u8; 8] = [0xa6; 8];
const HALF: usize = 8;

/// Wraps `plaintext`: a multiple of 8 bytes, at least 16 (the table has checked it).
pub(crate) fn wrap(token: &mut dyn Token, key: Handle, plaintext: &[u8]) -> Outcome<Vec<u8>> {
    // The plaintext stands in it until the first round is over.
    let mut wrapped = Zeroizing::new(Vec::with_capacity(plaintext.len() + HALF));
    wrapped.extend_from_slice(&IV);
    wrapped.extend_from_slice(plaintext);
    run(token, key, Direction::Encrypt, &mut wrapped)?;
    Ok(wrapped.to_vec())
}

/// Unwraps `wrapped`: a multiple of 8 bytes, at least 24. `None` when its integrity check fails.
pub(crate) fn unwrap(token: &mut dyn Token, key: Handle, wrapped: &[u8]) -> Outcome<Option<SecretBytes>> {
    let mut registers = Zeroizing::new(wrapped.to_vec());
    run(token, key, Direction::Decrypt, &mut registers)?;
    let (check, plaintext) = registers.split_at(HALF);
    Ok(bool::from(check.ct_eq(&IV)).then(|| SecretBytes::new(plaintext.to_vec())))
}

/// Runs all steps over `registers`, which are A | R[1] | ... | R[n].
fn run(token: &mut dyn Token, key: Handle, direction: Direction, registers: &mut [u8]) -> Outcome<()> {
    token.blocks_begin(direction, key)?;
    let stepped = steps(token, direction, registers);
    // The operation ends even when a step failed; its session would not take another.
    let ended = token.blocks_end(direction);
    stepped.and(ended)
}

fn steps(token: &mut dyn Token, direction: Direction, registers: &mut [u8]) -> Outcome<()> {
    let n = registers.len() / HALF - 1;
    let (a, r) = registers.split_at_mut(HALF);
    let mut block = Zeroizing::new(Block::default());
    for step in 0..6 * n {
        let step = if direction == Direction::Encrypt { step } else { 6 * n - 1 - step };
        let t = u64::try_from(step + 1).unwrap_or(u64::MAX).to_be_bytes();
        let start = step % n * HALF;
        let register = &mut r[start..start + HALF];
        block[..HALF].copy_from_slice(a);
        block[HALF..].copy_from_slice(register);
        if direction == Direction::Decrypt {
            xor(&mut block[..HALF], t);
        }
        token.block(direction, &mut block)?;
        if direction == Direction::Encrypt {
            xor(&mut block[..HALF], t);
        }
        a.copy_from_slice(&block[..HALF]);
        register.copy_from_slice(&block[HALF..]);
    }
    Ok(())
}

fn xor(half: &mut [u8], t: [u8; HALF]) {
    for (byte, t) in half.iter_mut().zip(t) {
        *byte ^= t;
    }
}
