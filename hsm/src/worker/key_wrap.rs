//! AES key wrap (RFC 3394), and the same with padding (RFC 5649), of a caller's bytes, block by block
//! through the HSM's AES.
//!
//! ```text
//! wrap    A = IV; for j in 0..6, i in 1..=n: B = AES(A | R[i]); A = MSB64(B) xor t; R[i] = LSB64(B); t = n j + i
//! unwrap  the same backwards with the inverse cipher; right only if A is the IV in the end
//!
//! padded  IV = A65959A6 | length u32, R = the key and 0 to 7 zeros; a single R: B = AES(IV | R[1]) and no more
//! ```
//!
//! `C_WrapKey` wraps objects, not bytes: making an object for each call leaks 241 bytes of SoftHSM, and it
//! zero-pads what it should refuse. One `C_EncryptInit(AES_ECB)` and 6n updates take 11 us for 32 bytes.

use subtle::{ConstantTimeEq as _, ConstantTimeGreater as _, ConstantTimeLess as _};
use zeroize::Zeroizing;

use super::token::{Block, Direction, Handle, Outcome, Token};
use crate::secret::SecretBytes;

/// RFC 3394 section 2.2.3.1.
const IV: [u8; 8] = [0xa6; 8];
/// RFC 5649 section 3: the constant half of its IV.
const PADDED_IV: [u8; 4] = [0xa6, 0x59, 0x59, 0xa6];
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

/// Wraps `plaintext` with padding: 1 byte to 4 GiB (the table has checked that it is far less).
pub(crate) fn wrap_padded(token: &mut dyn Token, key: Handle, plaintext: &[u8]) -> Outcome<Vec<u8>> {
    let length = u32::try_from(plaintext.len()).expect("the table limits the key's length");
    let mut wrapped = Zeroizing::new(vec![0; HALF + plaintext.len().next_multiple_of(HALF)]);
    wrapped[..4].copy_from_slice(&PADDED_IV);
    wrapped[4..HALF].copy_from_slice(&length.to_be_bytes());
    wrapped[HALF..HALF + plaintext.len()].copy_from_slice(plaintext);
    run(token, key, Direction::Encrypt, &mut wrapped)?;
    Ok(wrapped.to_vec())
}

/// Unwraps `wrapped` with padding: a multiple of 8 bytes, at least 16. `None` when its integrity check fails;
/// what it fails on does not show.
pub(crate) fn unwrap_padded(token: &mut dyn Token, key: Handle, wrapped: &[u8]) -> Outcome<Option<SecretBytes>> {
    let mut registers = Zeroizing::new(wrapped.to_vec());
    run(token, key, Direction::Decrypt, &mut registers)?;
    Ok(unpad(&registers).map(SecretBytes::new))
}

/// The key in A | R, where A holds its length.
fn unpad(registers: &[u8]) -> Option<Vec<u8>> {
    let (check, padded) = registers.split_first_chunk::<HALF>()?;
    let [iv @ .., a, b, c, d] = check;
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    let full = u32::try_from(padded.len()).ok()?;
    let shortest = full.checked_sub(7)?;
    let mut right = iv.ct_eq(&PADDED_IV[..]) & !length.ct_gt(&full) & !length.ct_lt(&shortest);
    for (index, byte) in (shortest..).zip(&padded[padded.len() - (HALF - 1)..]) {
        right &= index.ct_lt(&length) | byte.ct_eq(&0);
    }
    if bool::from(right) { padded.get(..usize::try_from(length).ok()?).map(<[u8]>::to_vec) } else { None }
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
    if n == 1 {
        // RFC 5649 section 4.1; without padding there are two at least.
        block[..HALF].copy_from_slice(a);
        block[HALF..].copy_from_slice(r);
        token.block(direction, &mut block)?;
        a.copy_from_slice(&block[..HALF]);
        r.copy_from_slice(&block[HALF..]);
        return Ok(());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(length: u32, padded: &[u8]) -> Vec<u8> {
        [&PADDED_IV[..], &length.to_be_bytes(), padded].concat()
    }

    #[test]
    fn a_key_is_as_long_as_its_length_says() {
        let padded = [[5; 8], [5, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(unpad(&registers(9, &padded)), Some(vec![5; 9]));
        assert_eq!(unpad(&registers(16, &padded)), Some(padded.clone()));
        assert_eq!(unpad(&registers(1, &padded[8..])), Some(vec![5]));
        for wrong in [0, 8, 17, u32::MAX] {
            assert_eq!(unpad(&registers(wrong, &padded)), None, "{wrong}");
        }
    }

    #[test]
    fn padding_that_is_not_zero_and_another_iv_are_refused() {
        for at in 1..8 {
            let mut padded = [5, 0, 0, 0, 0, 0, 0, 0];
            padded[at] = 1;
            assert_eq!(unpad(&registers(1, &padded)), None, "{at}");
        }
        for at in 0..4 {
            let mut bent = registers(8, &[5; 8]);
            bent[at] ^= 1;
            assert_eq!(unpad(&bent), None, "{at}");
        }
    }
}
