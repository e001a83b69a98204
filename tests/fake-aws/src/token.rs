//! Opaque tokens: of pages and of blocks. They are of `A-Za-z0-9+/=`, at most 256 characters, good for a while, and good
//! only for what they were given for. Each is new, though it says the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const MAC_LEN: usize = 12;

/// Makes a token that says `subject` and ends at `expires_ms`. `serial` makes it unlike the others.
pub(crate) fn seal(subject: &str, expires_ms: u64, serial: u64) -> String {
    let text = format!("{expires_ms} {serial} {subject}");
    let mut bytes = mac(text.as_bytes()).to_vec();
    // Bytes that look like none, or clients would begin to read them.
    bytes.extend(text.bytes().zip(mask(&bytes)).map(|(byte, mask)| byte ^ mask));
    STANDARD.encode(bytes)
}

/// What a token says, if it is one of ours and its time is not over.
pub(crate) fn open(token: &str, now_ms: u64) -> Option<String> {
    let bytes = STANDARD.decode(token).ok()?;
    let (code, sealed) = bytes.split_at_checked(MAC_LEN)?;
    let text: Vec<u8> = sealed.iter().zip(mask(code)).map(|(byte, mask)| byte ^ mask).collect();
    if mac(&text) != code {
        return None;
    }
    let text = String::from_utf8(text).ok()?;
    let (expires_ms, rest) = text.split_once(' ')?;
    let (_, subject) = rest.split_once(' ')?;
    (now_ms < expires_ms.parse().ok()?).then(|| subject.to_owned())
}

fn mac(text: &[u8]) -> [u8; MAC_LEN] {
    let digest = Sha256::new().chain_update(b"fake token").chain_update(text).finalize();
    let mut code = [0; MAC_LEN];
    code.copy_from_slice(&digest[..MAC_LEN]);
    code
}

fn mask(code: &[u8]) -> impl Iterator<Item = u8> + use<> {
    let digest: [u8; 32] = Sha256::digest(code).into();
    digest.into_iter().cycle()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_time_and_no_other() {
        let token = seal("block snap-0123456789abcdef0 4294967295", 1_000, 7);
        assert!(token.len() <= 256, "{token}");
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)), "{token}");
        assert_eq!(open(&token, 999).as_deref(), Some("block snap-0123456789abcdef0 4294967295"));
        assert_eq!(open(&token, 1_000), None);
        assert_ne!(token, seal("block snap-0123456789abcdef0 4294967295", 1_000, 8));
    }

    #[test]
    fn what_we_did_not_make_is_no_token() {
        let token = seal("page 5", 1_000, 0);
        let changed = token.replacen(token.chars().nth(3).unwrap(), "A", 1);
        for bad in ["", "AAAA", "bogus", "not base 64", &changed] {
            assert_eq!(open(bad, 0), None, "{bad}");
        }
    }
}
