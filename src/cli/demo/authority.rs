//! An authority for one demo, and a certificate of it for the server at 127.0.0.1. They lie in the demo's directory, and go with it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

/// Where they are, in PEM.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_field_names,
    reason = "one of the files is the certificate"
)]
pub(super) struct Certificate {
    /// The authority.
    pub(super) authority: PathBuf,
    /// The server's certificate.
    pub(super) certificate: PathBuf,
    /// Its key.
    pub(super) key: PathBuf,
}

/// Makes them in a directory that nobody else can read.
pub(super) fn make(dir: &Path) -> Result<Certificate, String> {
    let made = Certificate {
        authority: dir.join("demo-ca.pem"),
        certificate: dir.join("demo.pem"),
        key: dir.join("demo.key"),
    };
    let [authority, certificate, key] =
        signed().map_err(|error| format!("making a certificate: {error}"))?;
    for (path, pem) in [
        (&made.authority, authority),
        (&made.certificate, certificate),
        (&made.key, key),
    ] {
        let written = fs::write(path, pem)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o600)));
        written.map_err(|error| format!("writing {}: {error}", path.display()))?;
    }
    Ok(made)
}

/// The authority, the certificate, and the certificate's key.
fn signed() -> Result<[Vec<u8>; 3], ErrorStack> {
    let authority_key = new_key()?;
    let authority_name = named("cellwise demo")?;
    let mut authority = begin(&authority_name, &authority_key, 1)?;
    authority.set_issuer_name(&authority_name)?;
    authority.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    authority.sign(&authority_key, MessageDigest::sha256())?;
    let authority: X509 = authority.build();

    let key = new_key()?;
    let mut certificate = begin(&named("localhost")?, &key, 2)?;
    certificate.set_issuer_name(&authority_name)?;
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .dns("localhost")
        .build(&certificate.x509v3_context(Some(&authority), None))?;
    certificate.append_extension(names)?;
    certificate.sign(&authority_key, MessageDigest::sha256())?;
    Ok([
        authority.to_pem()?,
        certificate.build().to_pem()?,
        key.private_key_to_pem_pkcs8()?,
    ])
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn named(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_text("CN", name)?;
    Ok(builder.build())
}

fn begin(name: &X509Name, key: &PKey<Private>, serial: u32) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let serial = BigNum::from_u32(serial)?.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(name)?;
    builder.set_pubkey(key)?;
    let (from, until) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(90)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use openssl::{
        stack::Stack,
        x509::{X509StoreContext, store::X509StoreBuilder},
    };

    use super::*;

    #[test]
    fn the_certificate_is_the_authoritys_and_nobody_else_reads_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path()).unwrap();
        let read = |path: &Path| X509::from_pem(&fs::read(path).unwrap()).unwrap();
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(read(&made.authority)).unwrap();
        let certificate = read(&made.certificate);
        let verified = X509StoreContext::new().unwrap().init(
            &store.build(),
            &certificate,
            &Stack::new().unwrap(),
            openssl::x509::X509StoreContextRef::verify_cert,
        );
        assert!(verified.unwrap());
        assert!(
            certificate
                .subject_alt_names()
                .unwrap()
                .iter()
                .any(|name| { name.ipaddress() == Some(&[127, 0, 0, 1]) })
        );
        let key = fs::read(&made.key).unwrap();
        let key = PKey::private_key_from_pem(&key).unwrap();
        assert!(key.public_eq(&certificate.public_key().unwrap()));
        let permissions = fs::metadata(&made.key).unwrap().permissions().mode();
        assert_eq!(permissions & 0o077, 0);
    }
}
