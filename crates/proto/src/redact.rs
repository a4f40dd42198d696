//! `Debug` for the messages that carry secrets: the generated one would print them. Those that bring what a person has
//! typed or piped in wipe it when they go.

use std::fmt;

use zeroize::Zeroize as _;

use crate::auth::v1::{
    AddApiKeyRequest, BackupRequest, CompleteLoginRequest, CreateKeyResponse, ImportFile, RestoreRequest,
    RotateKeyResponse,
};

/// Stands for a secret.
const REDACTED: &str = "[redacted]";

impl fmt::Debug for ImportFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportFile").field("name", &self.name).field("content_bytes", &self.content.len()).finish()
    }
}

impl fmt::Debug for CreateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateKeyResponse").field("key", &REDACTED).field("info", &self.info).finish()
    }
}

impl fmt::Debug for RotateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateKeyResponse").field("key", &REDACTED).field("info", &self.info).finish()
    }
}

impl fmt::Debug for CompleteLoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompleteLoginRequest").field("login_id", &self.login_id).field("pasted", &REDACTED).finish()
    }
}

impl fmt::Debug for AddApiKeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddApiKeyRequest")
            .field("provider", &self.provider)
            .field("label", &self.label)
            .field("api_key", &REDACTED)
            .finish()
    }
}

impl Drop for CompleteLoginRequest {
    fn drop(&mut self) {
        self.pasted.zeroize();
    }
}

impl Drop for AddApiKeyRequest {
    fn drop(&mut self) {
        self.api_key.zeroize();
    }
}

impl fmt::Debug for BackupRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupRequest").field("passphrase", &REDACTED).finish()
    }
}

impl fmt::Debug for RestoreRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreRequest")
            .field("passphrase", &REDACTED)
            .field("data_bytes", &self.data.len())
            .field("dry_run", &self.dry_run)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::field_descriptor_proto::Type;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;
    use crate::auth::v1::{ExportCredentialsResponse, ImportCredentialsRequest};

    const SECRET: &str = "hunter2-hunter2";

    fn file() -> ImportFile {
        ImportFile { name: "auth.json".into(), content: SECRET.into() }
    }

    #[test]
    fn no_message_prints_its_secret() {
        let text = || SECRET.to_owned();
        let printed = [
            format!("{:?}", file()),
            format!(
                "{:?}",
                ImportCredentialsRequest { files: vec![file()], secret_seed: Some(file()), ..Default::default() }
            ),
            format!("{:?}", ExportCredentialsResponse { files: vec![file()], ..Default::default() }),
            format!("{:?}", CreateKeyResponse { key: text(), ..Default::default() }),
            format!("{:?}", RotateKeyResponse { key: text(), ..Default::default() }),
            format!("{:?}", CompleteLoginRequest { login_id: String::new(), pasted: text() }),
            format!("{:?}", AddApiKeyRequest { provider: String::new(), label: None, api_key: text() }),
            format!("{:?}", BackupRequest { passphrase: text() }),
            format!("{:?}", RestoreRequest { passphrase: text(), data: SECRET.into(), dry_run: true }),
        ];
        for one in printed {
            assert!(!one.contains("hunter2") && !one.contains("104, 117"), "{one}");
            assert!(one.len() > 20, "{one}");
        }
    }

    /// Fields that are named like secrets and are none.
    const HARMLESS: [&str; 5] = [
        // Labels.
        "switchboard.auth.v1.Wanted.key_credentials",
        // Its id or name.
        "switchboard.auth.v1.RevokeKeyRequest.key",
        "switchboard.auth.v1.RotateKeyRequest.key",
        // A hash, which opens nothing.
        "switchboard.auth.v1.VerifyKeyRequest.key_hash",
        // Where it is.
        "switchboard.auth.v1.RekeyDatabaseResponse.key_file",
    ];
    /// Messages whose `Debug` stands in this file.
    const REDACTED_HERE: [&str; 7] = [
        "switchboard.auth.v1.ImportFile",
        "switchboard.auth.v1.CreateKeyResponse",
        "switchboard.auth.v1.RotateKeyResponse",
        "switchboard.auth.v1.CompleteLoginRequest",
        "switchboard.auth.v1.AddApiKeyRequest",
        "switchboard.auth.v1.BackupRequest",
        "switchboard.auth.v1.RestoreRequest",
    ];

    /// A new message with a secret in it must not get the generated `Debug`: its field's name tells.
    #[test]
    fn fields_that_are_named_like_secrets_are_redacted() {
        let set = FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut looked_at = 0;
        for file in set.file.iter().filter(|file| file.package().starts_with("switchboard.")) {
            for message in &file.message_type {
                looked_at += check(&format!("{}.{}", file.package(), message.name()), message);
            }
        }
        assert!(looked_at >= REDACTED_HERE.len(), "only {looked_at} fields looked like secrets");
    }

    fn check(message: &str, descriptor: &DescriptorProto) -> usize {
        let suspects = ["key", "token", "secret", "passphrase", "password", "pasted", "content", "verifier"];
        let mut found = 0;
        for field in descriptor.field.iter().filter(|field| matches!(field.r#type(), Type::String | Type::Bytes)) {
            let named = suspects.iter().any(|suspect| field.name().split('_').any(|word| word == *suspect));
            // Ids of keys, counts of tokens and the like are other words beside these.
            if !named || field.name().ends_with("_id") {
                continue;
            }
            found += 1;
            let whole = format!("{message}.{}", field.name());
            let known = HARMLESS.contains(&whole.as_str()) || REDACTED_HERE.contains(&message);
            assert!(known, "{whole} looks like a secret: write its Debug by hand, or say here why it is none");
        }
        found
    }
}
