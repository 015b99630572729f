//! Session keys from master keys (RFC 3711 4.3, RFC 7714 11) with a key derivation rate of zero, the only one DTLS-SRTP
//! knows (RFC 5764 4.1.2).

use aes::{Aes128Enc, Aes256Enc};
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};

/// What a derived key is for (RFC 3711 4.3.1, 4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// A master key and salt as exported from DTLS.
#[derive(Clone, Copy)]
pub(super) struct Master<'a> {
    /// 16 or 32 bytes, which also choose the pseudorandom function: `AES-CM` with that key length.
    pub(super) key: &'a [u8],
    /// At most 14 bytes; shorter ones count as followed by zeros.
    pub(super) salt: &'a [u8],
}

impl Master<'_> {
    /// The first `N` bytes of the key stream for `label`.
    pub(super) fn derive<const N: usize>(&self, label: Label) -> [u8; N] {
        let mut block = [0; 16];
        block[..self.salt.len()].copy_from_slice(self.salt);
        block[7] ^= label as u8;
        let mut derived = [0; N];
        if let Ok(key) = <&[u8; 16]>::try_from(self.key) {
            Ctr128BE::<Aes128Enc>::new(key.into(), &block.into()).apply_keystream(&mut derived);
        } else {
            let key = <&[u8; 32]>::try_from(self.key).expect("invariant: profiles have keys of 16 or 32 bytes");
            Ctr128BE::<Aes256Enc>::new(key.into(), &block.into()).apply_keystream(&mut derived);
        }
        derived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 B.3.
    #[test]
    fn derives_the_keys_of_the_standard() {
        let master = Master {
            key: &0xE1F9_7A0D_3E01_8BE0_D64F_A32C_06DE_4139_u128.to_be_bytes(),
            salt: &0x0EC6_75AD_498A_FEEB_B696_0B3A_ABE6_u128.to_be_bytes()[2..],
        };
        assert_eq!(
            master.derive::<16>(Label::RtpEncryption),
            0xC61E_7A93_744F_39EE_1073_4AFE_3FF7_A087_u128.to_be_bytes()
        );
        assert_eq!(master.derive::<14>(Label::RtpSalt), 0x30CB_BC08_863D_8C85_D49D_B34A_9AE1_u128.to_be_bytes()[2..]);
        let authentication = master.derive::<94>(Label::RtpAuthentication);
        let expected = [
            0xCEBE_321F_6FF7_716B_6FD4_AB49_AF25_6A15_u128,
            0x6D38_BAA4_8F0A_0ACF_3C34_E235_9E6C_DBCE,
            0xE049_646C_43D9_327A_D175_578E_F722_7098,
            0x6371_C10C_9A36_9AC2_F94A_8C5F_BCDD_DC25,
            0x6D6E_919A_48B6_10EF_17C2_041E_4740_3576,
        ];
        for (block, expected) in authentication.chunks_exact(16).zip(expected) {
            assert_eq!(block, expected.to_be_bytes());
        }
        assert_eq!(&authentication[80..], &0x6B68_642C_59BB_FC2F_34DB_60DB_DFB2_u128.to_be_bytes()[2..]);
    }

    /// RFC 6188 7.2 to 7.4: the pseudorandom function of 256-bit keys.
    #[test]
    fn derives_from_long_keys_as_the_standard_does() {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&0xf0f0_4914_b513_f276_3a1b_1fa1_30f1_0e29_u128.to_be_bytes());
        key[16..].copy_from_slice(&0x98f6_f6e4_3e43_09d1_e622_a0e3_32b9_f1b6_u128.to_be_bytes());
        let salt = &0x3b04_803d_e51e_e7c9_6423_ab5b_78d2_u128.to_be_bytes()[2..];
        let master = Master { key: &key, salt };
        let encryption = master.derive::<32>(Label::RtpEncryption);
        assert_eq!(encryption[..16], 0x5ba1_064e_30ec_5161_3cad_926c_5a28_ef73_u128.to_be_bytes());
        assert_eq!(encryption[16..], 0x1ec7_fb39_7f70_a960_653c_af06_554c_d8c4_u128.to_be_bytes());
        assert_eq!(master.derive::<14>(Label::RtpSalt), 0xfa31_7916_85ca_444a_9e07_c6c6_4e93_u128.to_be_bytes()[2..]);
    }
}
