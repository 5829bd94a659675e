# What a key-custodian's short-lived token may do in Vault or OpenBao: rotate keys, retire their old
# versions, delete one for good. It unwraps nothing, and no node ever holds it.
path "transit/keys/+" { capabilities = ["read", "delete"] }
path "transit/keys/+/rotate" { capabilities = ["update"] }
path "transit/keys/+/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "deletion_allowed" = []
  }
}
path "auth/token/revoke-self" { capabilities = ["update"] }
