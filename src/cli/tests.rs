//! The command line as a whole: what is accepted, what is refused and in which words.

use clap::CommandFactory as _;

use super::*;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("strongroom").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_commands_of_the_manual_are_taken() {
    let lines = [
        "vault create dev --retention-days 7 --purge-protection --tag a=b",
        "vault show",
        "vault show dev -o json",
        "vault list --deleted",
        "vault update dev --tag a=b --tag c=d",
        "vault update dev --allow-padding-decryption true",
        "vault create dev --allow-padding-decryption false",
        "vault create dev --public-access false --allow-range 10.0.0.0/8 --allow-range ::1 --authorization roles",
        "vault update dev --public-access false --clear-ranges --local-access false",
        "vault update dev --authorization access-policies",
        "vault delete dev",
        "vault recover dev",
        "key create k --type EC --curve P-256 --ops sign,verify --residency token --not-before 2027-01-01T00:00:00Z",
        "key create k --type RSA --size 3072 --expires P1Y --tag a=b --disabled --must-not-exist",
        "key create k --type oct --size 256",
        "key create k --type OKP --curve Ed25519 --residency token",
        "key create k --type oct --ops sign,verify --size 512",
        "key show k --version 0123456789abcdef0123456789abcdef -o jwk",
        "key show k -o pem",
        "key show k -o jwks",
        "key import k --public-key p.pem --ops verify --expires P1Y --tag a=b --must-not-exist",
        "key import k --oct b --residency token --disabled",
        "key generate-data-key k --algorithm A256KW --out a --wrapped-out b",
        "key generate-data-key k --algorithm RSA-OAEP-256 --bytes 64 --wrapped-only --wrapped-out b --version v",
        "key generate-data-key k --algorithm A256GCM --out a --wrapped-out b --aad c -o json",
        "key list -o json",
        "key versions k -o json",
        "key update k --disable --clear-expires --ops sign",
        "key sign k --algorithm ES256 --in a --out b --der --version v",
        "key sign k --algorithm RS256 --in - --out - --digest",
        "key sign k --algorithm EdDSA --in a --out b",
        "key verify k --algorithm HS512 --in a --signature b",
        "key verify k --algorithm ES256K --in a --signature b --der",
        "key encrypt k --algorithm A256GCM --in a --out b --aad c",
        "key encrypt k --algorithm A256CBCPAD --in a --out b --iv 000102030405060708090a0b0c0d0e0f",
        "key decrypt k --in b --out a --aad c",
        "key decrypt k --algorithm RSA-OAEP-256 --in b --out a",
        "key wrap k --algorithm A256KW --in a --out b --raw",
        "key wrap k --algorithm A256KWP --in a --out b",
        "key unwrap k --in b --out a",
        "key random --bytes 32 --out r",
        "store migrate --config a --to-config b --anew -o json",
        "backup create --with-token --wait 5 -o json",
        "backup list -o json",
        "backup verify d --config c -o json",
        "backup restore d --config c --with-token -o json",
        "backup drill d --config c --recovery-key-private k --keys all --scratch /dev/shm -o json",
        "audit list --key k --since 30d --until 2027-01-01 --principal spiffe://a/b --outcome refused --limit 7 -o json",
        "audit list --vault dev --operation keys.sign --log /copy",
        "audit list --resource roleAssignments",
        "audit show auditRecords/815",
        "audit tail --lines 0 -o json",
        "audit tail --from-index 815 --outcome failed",
        "audit export --from-index 815 --out a --log /copy",
        "audit uses --key vaults/dev/keys/k --since 24h",
        "audit receipt 815 --out r",
        "audit checkpoint",
        "key delete k --etag e --request-id 00000000-0000-4000-8000-000000000001",
        "key recover k",
        "key delete k --version 0123456789abcdef0123456789abcdef -o json",
        "key recover k --version 0123456789abcdef0123456789abcdef",
        "key purge k --etag e --request-id 00000000-0000-4000-8000-000000000001 -o json",
        "key purge k --version 0123456789abcdef0123456789abcdef",
        "key rotate k --residency token -o json",
        "key backup k --out a -o json",
        "key restore a --older --check --request-id 00000000-0000-4000-8000-000000000001 -o json",
        "key move k --to-vault other --etag e --request-id 00000000-0000-4000-8000-000000000001 -o json",
        "key list --deleted --enabled true --expires-before P30D --expires-from 2027-01-01T00:00:00Z --algorithm PS256",
        "key versions k --deleted",
        "key re-encrypt k --to other --algorithm A256GCM --in a --out b --aad c -o json",
        "key rewrap k --in a --out b",
        "secret set s --file f --content-type text/plain --not-before P1D --expires P1Y --tag a=b --disabled --must-not-exist",
        "secret set s --strip-newline --request-id 00000000-0000-4000-8000-000000000001 -o json",
        "secret show s --version 0123456789abcdef0123456789abcdef -o json",
        "secret value strongroom://dev/s --version 0123456789abcdef0123456789abcdef --out f -o json",
        "secret list --deleted --enabled false --expires-before P30D --expires-from 2027-01-01T00:00:00Z -o json",
        "secret versions vaults/dev/secrets/s -o json",
        "secret update s --enable --expires P1Y --clear-not-before --content-type a/b --clear-tags --etag e -o json",
        "secret delete s --etag e -o json",
        "secret recover s -o json",
        "secret purge s --request-id 00000000-0000-4000-8000-000000000001 -o json",
        "secret backup s --out f -o json",
        "secret restore f --older --check -o json",
        "exec --secret s --secret t=T -- env -i --vault",
        "inject",
        "inject --in a --out b",
        "vault purge dev -o json",
        "event watch --type strongroom.v1.KeyExpired --type strongroom.v1.KeyDeleted --after 7.1 --no-follow -o json",
        "event watch --all-vaults --from-beginning",
        "webhook list -o json",
        "webhook dead-letters ops -o json",
        "webhook replay ops --event 9a2f5a30-6f2e-4d58-9d2b-0a0f4f5b8b11 -o json",
        "key rotation-policy set k --uses 1000 --when-spent refuse",
        "key rotation-policy show k -o json",
        "key rotation-policy set k --rotate-after P90D --expiry P1Y --notify-before-expiry P30D --next-key P-384 --etag e",
        "key rotation-policy set k --rotate-before-expiry P30D --expiry P1Y",
        "key rotation-policy clear k",
        "rotation status -o json",
        "rotation forecast --until 2036-01-01T00:00:00Z",
        "key rotate k --etag e --request-id 00000000-0000-4000-8000-000000000001 -o json",
        "file encrypt --key k in out",
        "file encrypt --key k --key vaults/dev/keys/l --armor - -",
        "file decrypt in out -o json",
        "file recipient --key k",
        "file identity",
        "file identity --key k",
        "access grant --principal spiffe://example.org/ci --role administrator --scope vaults/dev/keys/k",
        "access grant --principal a:b --role 12338af0-0e69-4776-bea7-57ae8d297424",
        "access list -o json",
        "access list --principal a:b --scope vaults/dev/keys --role administrator",
        "access roles list",
        "access roles show administrator -o json",
        "access roles create signer --data-action keys.sign --not-data-action keys.delete --assignable-scope vaults/dev",
        "access roles create --file f --id 12338af0-0e69-4776-bea7-57ae8d297424",
        "access roles update signer --name s --description d --action roleAssignments.read --not-action a --etag e",
        "access roles delete signer -o json",
        "vault policy set dev --principal a:b --keys get,list,Sign --secrets all --certificates get",
        "vault policy list dev -o json",
        "vault policy delete dev --principal a:b",
        "access revoke 0123456789abcdef0123456789abcdef",
        "access break-glass --config c --principal spiffe://example.org/a --reason lost --yes -o json",
        "token create ci",
        "token create ci --life 600 --out token -o json",
        "token list -o json",
        "own-keys show -o json",
        "vault rotate-kek payments --etag 5d41402a -o json",
        "own-keys rotate-issuer --revoke -o json",
        "own-keys rotate-root --recovery-key a.pub --recovery-key b.pub -o json",
        "own-keys rotate-root --no-recovery",
        "own-keys rotate-log --request-id 0123456789abcdef0123456789abcdef -o json",
        "token revoke 0123456789abcdef0123456789abcdef",
        "vault list --token-file token",
        "audit verify --config c",
        "audit verify --data-dir d --against a --against b -o json",
        "audit verify --log l --unsigned",
        "audit key",
        "audit key --config c",
        "audit key --data-dir d -o json",
        "audit prune --config c --before 1000 --dry-run",
        "audit prune --data-dir d --before 2027-01-01T00:00:00Z --archive a -o json",
        "audit prune --config c --before 1000 --delete",
        "--endpoint https://127.0.0.1:1 --ca a --cert b --key-file c --vault dev --timeout 5 key list",
        "key list --endpoint https://127.0.0.1:1 --vault dev",
        "key list --endpoint https://127.0.0.1:1 --endpoint https://127.0.0.1:2,unix:/s --vault dev",
        "serve --config c",
        "dev --data-dir d --listen 127.0.0.1:1 --metrics-listen localhost:2 --allow-non-loopback",
        "init --config c --admin-certificate a --recovery-key r --recovery-key s",
        "init --config c --admin-certificate a --no-recovery",
        "recover --config c --recovery-key-private k",
        "config check c",
        "pin clear-latch --config c",
        "doctor",
        "doctor --module m -o json",
        "init --config c --admin-certificate a --no-recovery -o json",
        "recover --config c --recovery-key-private k -o json",
        "config check c -o json",
        "pin clear-latch --config c -o json",
        "pin change --config c --new-pin-file f -o json",
        "dev --data-dir d -o json",
        "key random --bytes 32 -o json",
        "completions zsh",
        "man --out d",
        "proto --out d",
        "hsm-worker",
    ];
    for line in lines {
        if let Err(error) = parsed(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let lines = [
        ("key sign k --algorithm ES255 --in a --out b", "[possible values: RS256"),
        ("key encrypt k --algorithm ES256 --in a --out b", "[possible values: RSA-OAEP"),
        ("key rotation-policy set k --uses 7", "--when-spent <ACTION>"),
        ("key rotation-policy set k --uses 0 --when-spent rotate", "is not in 1.."),
        ("event watch --after 7.1 --from-beginning", "cannot be used with"),
        ("webhook replay ops --event 7", "UUID"),
        ("key list --expires-before soon", "RFC 3339"),
        ("key create k --type DSA", "[possible values: RSA, EC, OKP, oct]"),
        ("key create k --type EC --ops sing", "[possible values: encrypt"),
        ("key create k --type EC --ops deriveKey", "key agreement (ECDH) is not offered"),
        ("key encrypt k --algorithm A256CBC --in a --out b --iv 00", "32 hexadecimal digits"),
        ("vault update dev --allow-padding-decryption maybe", "[possible values: true, false]"),
        ("vault update dev --allow-range 10.0.0.1/8", "zeros behind its prefix"),
        ("vault update dev --allow-range ::1 --clear-ranges", "cannot be used with"),
        ("vault update dev --authorization none", "[possible values: roles, access-policies]"),
        ("key create k --type EC --expires tomorrow", "RFC 3339"),
        ("key update k --enable --disable", "cannot be used with"),
        ("secret update s --enable --disable", "cannot be used with"),
        ("secret set s hunter2", "unexpected argument"),
        ("exec --secret s=1A -- env", "is no name of a variable"),
        ("exec --secret s", "COMMAND"),
        ("exec -- env", "--secret"),
        ("key random --bytes 0", "1..=1048576"),
        ("vault create 1ab", "beginning with a letter"),
        ("vault create dev --retention-days 6", "7..=90"),
        ("access grant --principal ci --role administrator", "a URI with a scheme"),
        ("vault policy set dev --principal a:b --keys sing", "[possible values: all, get"),
        ("access roles create s --data-action a[b]", "1 to 256 of"),
        ("access grant --principal a:b --role administrator --scope dev", "`/`, `vaults/{vault}`"),
        ("token create CI", "1 to 64 of a-z, 0-9 and inner hyphens"),
        ("token create ci --life 0", "0 is not in 1.."),
        ("init --config c --admin-certificate a", "--recovery-key"),
        ("backup drill d --config c --keys 0", "a number from 1, or all"),
        ("init --config c --admin-certificate a --no-recovery --recovery-key r", "cannot be used with"),
        ("dev --data-dir d --listen nowhere", "looks like 127.0.0.1:8443"),
        ("file encrypt a b", "--key <NAME>"),
        ("file encrypt --recipient k a b", "a recipient looks like age1"),
        ("key", "Usage:"),
        ("kei list", "unrecognized subcommand"),
        ("key list --timeout 0", "1..=86400"),
        ("completions tcsh", "[possible values: bash"),
        ("key unwrap k --raw --in a --out b", "--algorithm"),
        ("key import k", "--public-key <FILE>|--oct <FILE>"),
        ("key import k --oct a --public-key b", "cannot be used with"),
        ("key generate-data-key k --algorithm ES256 --out a --wrapped-out b", "[possible values: RSA-OAEP"),
        ("key generate-data-key k --algorithm A256KW --wrapped-out b", "--out <FILE>"),
        ("key generate-data-key k --algorithm A256KW --out a --wrapped-only --wrapped-out b", "cannot be used with"),
        ("key generate-data-key k --algorithm A256KW --bytes 33 --out a --wrapped-out b", "16, 24, 32, 64"),
    ];
    for (line, expected) in lines {
        let error = parsed(line).map(|_| ()).expect_err(line);
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
}

#[test]
fn the_format_of_errors_is_that_of_the_result() {
    let format = |line: &str| {
        let words = std::iter::once("strongroom").chain(line.split_whitespace());
        output::asked(&Cli::command().try_get_matches_from(words).expect(line))
    };
    for line in ["key show k -o json", "key list --output json", "doctor -o json --module m"] {
        assert_eq!(format(line), output::Format::Json, "{line}");
    }
    for line in ["key show k -o jwk", "key list", "serve --config c"] {
        assert_eq!(format(line), output::Format::Table, "{line}");
    }
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    let code = |line: &str| format!("{:?}", usage(&parsed(line).map(|_| ()).expect_err(line)));
    assert_eq!(code("key list --nonsense"), format!("{:?}", ExitCode::from(2)));
    assert_eq!(code("key"), format!("{:?}", ExitCode::from(2)));
    assert_eq!(code("key --help"), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(code("--version"), format!("{:?}", ExitCode::SUCCESS));
}

/// Commands from the typed line to the fake server and back, through TLS.
mod end_to_end {
    use std::{fs, path::Path};

    use strongroom_proto::v1;

    use super::*;
    use fake::Fake;

    const VERSION: &str = fake::VERSION;

    async fn typed(fake: &Fake, line: &str) -> anyhow::Result<ExitCode> {
        let cli = parsed(&format!("{} {line}", fake.flags())).expect(line);
        done(cli).await
    }

    async fn done(cli: Cli) -> anyhow::Result<ExitCode> {
        let Command::Client(command) = cli.command else { anyhow::bail!("no client command") };
        client_command(&cli.connection, command).await
    }

    fn code(result: anyhow::Result<ExitCode>) -> String {
        format!("{:?}", result.expect("done"))
    }

    fn error(result: anyhow::Result<ExitCode>) -> String {
        let error = result.expect_err("an error");
        error.downcast_ref::<failure::Failure>().map_or_else(|| format!("{error:#}"), ToString::to_string)
    }

    fn file(dir: &Path, name: &str, content: &[u8]) -> String {
        let path = dir.join(name);
        fs::write(&path, content).expect("written");
        path.display().to_string()
    }

    #[tokio::test]
    async fn a_data_key_is_written_in_the_forms_that_were_asked_for() {
        let fake = Fake::start().await;
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (plain, wrapped) = (path("plain"), path("wrapped"));
        let make = |rest: &str| format!("key generate-data-key k --wrapped-out {wrapped} {rest}");
        let read = |path: &str| fs::read_to_string(path).expect("read");
        typed(&fake, &make(&format!("--algorithm A256KW --bytes 24 --out {plain}"))).await.expect("made");
        assert_eq!(fs::read(&plain).expect("read"), [7; 24]);
        assert!(read(&wrapped).contains("strongroom.wrapped-key.v1"), "{}", read(&wrapped));
        fs::remove_file(&plain).expect("removed");
        typed(&fake, &make("--algorithm A256KW --wrapped-only")).await.expect("made");
        assert!(!Path::new(&plain).exists() && !read(&wrapped).contains("BwcH"), "{}", read(&wrapped));
        typed(&fake, &make(&format!("--algorithm A256GCM --out {plain}"))).await.expect("made");
        // What AES-GCM encrypted is opened by `key decrypt`.
        assert!(read(&wrapped).contains("strongroom.ciphertext.v1"), "{}", read(&wrapped));
        typed(&fake, &format!("key decrypt k --in {wrapped} --out {plain}.again")).await.expect("decrypted");
        assert_eq!(fs::read(format!("{plain}.again")).expect("read"), [7; 32]);
        let twice = "key generate-data-key k --algorithm A256KW --out - --wrapped-out -";
        assert!(error(typed(&fake, twice).await).contains("one of the two forms"));
    }

    #[tokio::test]
    async fn a_key_from_outside_is_sent_as_it_is_in_its_file() {
        let fake = Fake::start().await;
        let dir = tempfile::tempdir().expect("a folder");
        let secret = file(dir.path(), "secret", &[0x5a; 32]);
        typed(&fake, &format!("key import k --oct {secret} --ops encrypt,decrypt")).await.expect("imported");
        let sent = fake.imported().pop().expect("one");
        assert_eq!(sent.material_crc32c, Some(crc32c::crc32c(&[0x5a; 32])));
        assert!(sent.material == Some(v1::import_key_request::Material::Oct(vec![0x5a; 32])));
        assert_eq!(sent.version.map(|version| version.key_operations), Some(vec![1, 2]));
        let long = file(dir.path(), "long", &[0; 65]);
        assert!(error(typed(&fake, &format!("key import k --oct {long}")).await).contains("longer than the 64 bytes"));
    }

    #[tokio::test]
    async fn a_key_set_is_fetched_to_its_last_page() {
        let fake = Fake::start().await;
        typed(&fake, "key show k -o jwks").await.expect("shown");
        let none = error(typed(&fake, "key show none -o jwks").await);
        assert!(none.contains("has no enabled version with a public half"), "{none}");
        let one = error(typed(&fake, &format!("key show {VERSION} -o jwks")).await);
        assert!(one.contains("of all versions of a key"), "{one}");
    }

    #[tokio::test]
    async fn an_encrypted_file_comes_back_and_names_its_version() {
        let fake = Fake::start().await;
        let dir = tempfile::tempdir().expect("a folder");
        let (plain, aad) = (file(dir.path(), "plain", b"attack at dawn"), file(dir.path(), "aad", b"context"));
        let (sealed, opened) = (format!("{plain}.json"), format!("{plain}.opened"));
        let line = format!("key encrypt k --algorithm A256GCM --in {plain} --out {sealed} --aad {aad}");
        assert_eq!(code(typed(&fake, &line).await), format!("{:?}", ExitCode::SUCCESS));
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&sealed).expect("read")).expect("JSON");
        assert_eq!(json["name"], VERSION);
        assert_eq!(json["additional_data"], true);
        code(typed(&fake, &format!("key decrypt k --in {sealed} --out {opened} --aad {aad}")).await);
        assert_eq!(fs::read(&opened).expect("read"), b"attack at dawn");
        let text = error(typed(&fake, &format!("key decrypt k --in {sealed} --out {opened}2")).await);
        assert!(text.contains("was encrypted with additional data"), "{text}");
        let text = error(typed(&fake, &format!("key decrypt other --in {sealed} --out {opened}2 --aad {aad}")).await);
        assert!(text.contains("is not a version of vaults/dev/keys/other"), "{text}");
        assert!(!Path::new(&format!("{opened}2")).exists());
    }

    #[tokio::test]
    async fn what_is_encrypted_anew_can_be_opened() {
        let fake = Fake::start().await;
        let dir = tempfile::tempdir().expect("a folder");
        let (plain, aad) = (file(dir.path(), "plain", b"attack at dawn"), file(dir.path(), "aad", b"context"));
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (old, new) = (path("old"), path("new"));
        let json =
            |path: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON") };
        let again = |from: &str, to: &str, more: &str| format!("key re-encrypt k --in {from} --out {to} {more}");
        typed(&fake, &format!("key encrypt k --algorithm A256GCM --in {plain} --out {old} --aad {aad}"))
            .await
            .expect("encrypted");
        // What the new algorithm cannot keep is not dropped, whether it was passed or not.
        for more in ["--algorithm RSA-OAEP-256".to_owned(), format!("--algorithm A256CBCPAD --aad {aad}")] {
            let text = error(typed(&fake, &again(&old, &new, &more)).await);
            assert!(text.contains("cannot keep"), "{text}");
        }
        assert!(!Path::new(&new).exists());
        typed(&fake, &again(&old, &new, &format!("--aad {aad}"))).await.expect("encrypted anew");
        assert!(json(&new)["additional_data"] == true && json(&new)["algorithm"] == "A256GCM");
        // AES-CBC gets an IV each time, when the algorithm is named and when it is that of the file.
        let bare = path("bare");
        typed(&fake, &format!("key encrypt k --algorithm A256GCM --in {plain} --out {bare}")).await.expect("encrypted");
        let (first, second, third) = (path("first"), path("second"), path("third"));
        typed(&fake, &again(&bare, &first, "--algorithm A256CBCPAD")).await.expect("encrypted anew");
        typed(&fake, &again(&first, &second, "")).await.expect("encrypted anew");
        let ivs = [&first, &second].map(|path| json(path)["iv"].as_str().expect("an IV").to_owned());
        assert!(ivs[0] != ivs[1] && ivs.iter().all(|iv| iv.len() == 22), "{ivs:?}");
        assert!(json(&second)["algorithm"] == "A256CBCPAD" && json(&second).get("additional_data").is_none());
        typed(&fake, &again(&second, &third, "--algorithm RSA-OAEP-256")).await.expect("encrypted anew");
        assert!(json(&third).get("iv").is_none() && json(&third).get("additional_data").is_none());
    }

    #[tokio::test]
    async fn a_watch_waits_for_its_server_and_goes_on_where_it_was() {
        let fake = Fake::start().await;
        let text = error(typed(&fake, "event watch").await);
        assert!(text.starts_with("cannot watch the events of vaults/dev: no right"), "{text}");
        assert_eq!(fake.watched(), ["", "7.1", "7.1"]);
        // The first time nothing is waited for.
        let text = error(typed(&fake, "event watch").await);
        assert!(text.contains("no right") && fake.watched().len() == 4, "{text}");
    }

    #[tokio::test]
    async fn a_wrong_signature_is_1_and_an_error_2() {
        let fake = Fake::start().await;
        let dir = tempfile::tempdir().expect("a folder");
        let (good, bad) = (file(dir.path(), "good", &[1; 64]), file(dir.path(), "bad", &[2; 64]));
        let line = |signature: &str| format!("key verify k --algorithm ES256 --in {good} --signature {signature}");
        assert_eq!(code(typed(&fake, &line(&good)).await), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(typed(&fake, &line(&bad)).await), format!("{:?}", ExitCode::from(1)));
        let text = error(typed(&fake, &line("/nonexistent")).await);
        assert!(text.starts_with("cannot open /nonexistent"), "{text}");
    }

    #[tokio::test]
    async fn damage_on_the_way_is_an_error_and_leaves_no_file() {
        let fake = Fake::start().await;
        let dir = tempfile::tempdir().expect("a folder");
        let input = file(dir.path(), "in", b"x");
        let text =
            error(typed(&fake, &format!("key sign damaged --algorithm ES256 --in {input} --out {input}.sig")).await);
        assert!(text.contains("signature was damaged on the way"), "{text}");
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1);
    }

    #[tokio::test]
    async fn what_passes_is_repeated_with_the_same_request_id() {
        let fake = Fake::start().await;
        assert_eq!(code(typed(&fake, "key create k --type EC").await), format!("{:?}", ExitCode::SUCCESS));
        let seen = fake.created();
        assert_eq!(seen.len(), 3, "two refusals and a success");
        assert!(seen.iter().all(|request| request == &seen[0]), "the same request each time");
        assert_eq!(seen[0].version.as_ref().map(v1::KeyVersion::key_type), Some(v1::KeyType::Ec));
    }

    #[tokio::test]
    async fn keys_that_cannot_be_are_refused_here() {
        let fake = Fake::start().await;
        let cases = [
            ("key create k --type OKP --size 256", "--size is for RSA and oct"),
            ("key create k --type OKP --curve P-256", "the curve of an OKP key is Ed25519"),
            ("key create k --type EC --curve Ed25519", "pass --type OKP"),
            ("key create k --type EC --size 256", "--size is for RSA and oct"),
            ("key create k --type oct --curve P-256", "--curve is for EC and OKP"),
            ("key create k --type EC --tag a=1 --tag a=2", "is given twice"),
            ("key create a_b --type EC", "is not a key name"),
            ("key update k", "nothing to change was named"),
            ("key rotate vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef", "takes a whole key"),
            ("key show keys/k", "is not the name of a key"),
            ("key sign k --algorithm RS256 --der --in a --out b", "have one form only"),
            ("access revoke 12", "is not the id of a role assignment"),
            ("token revoke 12", "is not the id of a token"),
        ];
        for (line, expected) in cases {
            let text = error(typed(&fake, line).await);
            assert!(text.contains(expected), "{line}: {text}");
        }
        assert!(fake.created().is_empty());
    }

    #[tokio::test]
    async fn lists_are_read_to_their_last_page() {
        let fake = Fake::start().await;
        assert_eq!(code(typed(&fake, "key list -o json").await), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(fake.pages(), 2);
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_given_up() {
        let fake = Fake::start().await;
        let text = error(typed(&fake, "--timeout 1 key show slow").await);
        assert!(text.starts_with("cannot show vaults/dev/keys/slow: no answer from https://"), "{text}");
        assert!(text.contains("--timeout SECONDS (it had 1)"), "{text}");
    }

    #[tokio::test]
    async fn broken_connections_say_why() {
        let fake = Fake::start().await;
        let other = Fake::start().await;
        let (ca, cert) = (fake.path("ca.pem"), fake.path("cert.pem"));
        let cases = [
            (format!("--ca {}", other.path("ca.pem")), "is not signed by the CA you trust"),
            (format!("--endpoint https://127.0.0.1:1 --ca {ca}"), "nothing listens there"),
            (format!("--endpoint {}", fake.endpoint().replace("127.0.0.1", "localhost")), "is for another host name"),
            ("--endpoint https://no-such-host.invalid:1".to_owned(), "there is no host of that name"),
            (
                format!("--endpoint https://127.0.0.1:1 --endpoint https://127.0.0.1:2 --ca {ca}"),
                "https://127.0.0.1:2: nothing listens there",
            ),
            (format!("--key-file {cert}"), "holds no private key in PEM"),
            (format!("--key-file {}", other.path("key.pem")), "belong together"),
            (
                format!("--cert {} --key-file {}", other.path("cert.pem"), other.path("key.pem")),
                "refused the client certificate",
            ),
        ];
        for (flags, expected) in cases {
            let line = format!("{} {flags} key list", fake.flags_without(&flags));
            let text = error(done(parsed(&line).expect("flags")).await);
            assert!(text.contains(expected), "{flags}: {text}");
        }
    }
}
