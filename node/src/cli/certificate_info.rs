//! What a certificate says, for people.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a text holds no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// The text is no certificate in PEM.
    #[error("there is no certificate in PEM in it")]
    NoPem,
    /// The bytes are no certificate.
    #[error("it is no certificate: {0}")]
    Malformed(String),
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateInfo {
    /// Common name of its subject.
    pub(super) subject: String,
    /// Common name of who signed it.
    pub(super) issuer: String,
    /// Its DNS names.
    pub(super) names: Vec<String>,
    /// Seconds since 1970 from which it is valid.
    pub(super) not_before: i64,
    /// The same as a date.
    pub(super) not_before_text: String,
    /// Seconds since 1970 until which it is valid.
    pub(super) not_after: i64,
    /// The same as a date.
    pub(super) not_after_text: String,
    /// Whether it is valid now, by this machine's clock.
    pub(super) is_valid_now: bool,
    /// Whether it may sign others.
    pub(super) is_authority: bool,
}

impl CertificateInfo {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`CertificateError`] if there is none.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        let (_, block) =
            x509_parser::pem::parse_x509_pem(pem).map_err(|_| CertificateError::NoPem)?;
        if block.label != "CERTIFICATE" {
            return Err(CertificateError::NoPem);
        }
        let (_, certificate) = X509Certificate::from_der(&block.contents)
            .map_err(|e| CertificateError::Malformed(e.to_string()))?;
        let common_name = |name: &x509_parser::x509::X509Name<'_>| {
            let first = name.iter_common_name().next();
            let text = first.and_then(|name| name.as_str().ok());
            text.unwrap_or_default().to_owned()
        };
        let validity = certificate.validity();
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter());
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        Ok(Self {
            subject: common_name(certificate.subject()),
            issuer: common_name(certificate.issuer()),
            names: names.into_iter().flatten().filter_map(dns).collect(),
            not_before: validity.not_before.timestamp(),
            not_before_text: validity.not_before.to_string(),
            not_after: validity.not_after.timestamp(),
            not_after_text: validity.not_after.to_string(),
            is_valid_now: validity.is_valid(),
            is_authority: certificate.is_ca(),
        })
    }
}

#[cfg(test)]
mod tests {
    use quorate_client::link::{ClusterId, cluster_san, node_san};
    use quorate_ring::NodeName;

    use super::*;
    use crate::shell::certs::{AuthorityKind, Validity, new_authority, sign_node};

    #[test]
    fn a_nodes_certificate_shows_the_node_and_its_cluster() {
        let cluster = ClusterId([7; 16]);
        let validity = Validity {
            from_s: 1_000_000_000,
            until_s: 2_000_000_000,
        };
        let authority = new_authority(AuthorityKind::Nodes, cluster, validity).expect("made");
        let name: NodeName = "a".parse().expect("a name");
        let own = sign_node(&authority, cluster, &name, validity).expect("signed");
        let info = CertificateInfo::from_pem(own.certificate.as_bytes()).expect("one");
        assert_eq!(info.subject, "a");
        assert_eq!(info.names, [node_san(cluster, &name), cluster_san(cluster)]);
        assert_eq!(
            (info.not_before, info.not_after),
            (1_000_000_000, 2_000_000_000)
        );
        assert!(!info.is_authority);
        let info = CertificateInfo::from_pem(authority.certificate.as_bytes()).expect("one");
        assert!(info.is_authority);
        assert!(CertificateInfo::from_pem(own.key.as_bytes()).is_err());
        assert!(CertificateInfo::from_pem(b"no pem").is_err());
    }
}
