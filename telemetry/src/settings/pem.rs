//! Certificates and keys that stand in a variable in place of the name of a file: a container is often given secrets as variables and
//! nothing else. What reads the settings finds a file all the same: one in memory, which nobody else can open.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::IntoRawFd as _;

use rustix::fs::{MemfdFlags, memfd_create};

/// Last parts of the keys whose value is the name of a PEM file.
const FILE_KEYS: [&str; 4] = ["ca", "cert", "key", "jwks_ca"];

pub(super) fn is_file_key(key: &str) -> bool {
    FILE_KEYS.contains(&key)
}

/// Whether this is what stands in a PEM file (RFC 7468), and no name of one.
pub(super) fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ")
}

/// The name of a file that holds `text`, for as long as the process lives.
pub(super) fn as_file(text: &str) -> io::Result<String> {
    let mut file = File::from(memfd_create("sluice-settings", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    // Open from now on: its name is that of the descriptor.
    Ok(format!("/proc/self/fd/{}", file.into_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_from_its_beginning_each_time() {
        let name = as_file("-----BEGIN CERTIFICATE-----\n").expect("kept");
        for _ in 0..2 {
            assert_eq!(std::fs::read_to_string(&name).expect("readable"), "-----BEGIN CERTIFICATE-----\n");
        }
    }

    #[test]
    fn only_pem_is_taken_for_it() {
        assert!(is_pem("\n-----BEGIN EC PRIVATE KEY-----\n") && is_file_key("cert") && is_file_key("jwks_ca"));
        assert!(!is_pem("/etc/sluice/ca.pem") && !is_pem("-----") && !is_file_key("hs256_secret"));
    }
}
