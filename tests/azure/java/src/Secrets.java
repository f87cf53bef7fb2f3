import com.azure.security.keyvault.secrets.SecretClient;
import com.azure.security.keyvault.secrets.SecretClientBuilder;
import com.azure.security.keyvault.secrets.models.DeletedSecret;
import com.azure.security.keyvault.secrets.models.KeyVaultSecret;
import com.azure.security.keyvault.secrets.models.SecretProperties;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** Secrets with azure-security-keyvault-secrets: set, read, versions, changed, deleted, recovered, purged, listed. */
final class Secrets {
    private static final SecretClient CLIENT = client();
    private static final List<String> MADE = Collections.synchronizedList(new ArrayList<>());

    private Secrets() {}

    private static SecretClient client() {
        var builder = new SecretClientBuilder().vaultUrl(Checks.VAULT).credential(Checks.CREDENTIAL);
        builder.httpClient(Checks.HTTP).retryOptions(Checks.RETRY);
        return (Checks.verificationOff() ? builder.disableChallengeResourceVerification() : builder).buildClient();
    }

    /** A name that is deleted and purged at the end. */
    private static String fresh(String what) {
        String name = Checks.named(what);
        MADE.add(name);
        return name;
    }

    private static void remove(String name) {
        Checks.settled(CLIENT.beginDeleteSecret(name));
        CLIENT.purgeDeletedSecret(name);
    }

    static void run() {
        String none = Checks.named("none");
        Checks.check("secrets: an unknown secret: 404 SecretNotFound",
            () -> Checks.refused(404, "SecretNotFound", () -> CLIENT.getSecret(none)));
        values();
        life();
        lists();
        Checks.check("secrets: what was made is purged", Secrets::purge);
    }

    private static void values() {
        String name = fresh("secret");
        String greeting = "grüße, 世界\n";
        Checks.check("secrets: set and get", () -> {
            var properties = new SecretProperties().setContentType("text/plain").setTags(Map.of("team", "blue"));
            KeyVaultSecret made = CLIENT.setSecret(new KeyVaultSecret(name, greeting).setProperties(properties));
            Checks.that(made.getId().startsWith(Checks.VAULT + "/secrets/" + name + "/"), made.getId());
            KeyVaultSecret read = CLIENT.getSecret(name);
            Checks.same(read.getValue(), greeting);
            Checks.same(read.getProperties().getContentType(), "text/plain");
            Checks.same(read.getProperties().getTags(), Map.of("team", "blue"));
        });
        Checks.check("secrets: a second value is a new version; the first stays", () -> {
            String first = CLIENT.getSecret(name).getProperties().getVersion();
            String second = CLIENT.setSecret(name, "two").getProperties().getVersion();
            Checks.same(CLIENT.getSecret(name).getValue(), "two");
            Checks.same(CLIENT.getSecret(name, first).getValue(), greeting);
            var versions = Checks.pages(CLIENT.listPropertiesOfSecretVersions(name)).items().stream();
            Checks.same(versions.map(SecretProperties::getVersion).collect(Collectors.toSet()), Set.of(first, second));
        });
        Checks.check("secrets: attributes change, the value does not", () -> {
            OffsetDateTime expires = OffsetDateTime.parse("2040-01-02T03:04:05Z");
            SecretProperties asked = CLIENT.getSecret(name).getProperties();
            CLIENT.updateSecretProperties(asked.setExpiresOn(expires).setContentType("x/y").setTags(Map.of("b", "2")));
            KeyVaultSecret read = CLIENT.getSecret(name);
            Checks.same(read.getValue(), "two");
            Checks.same(read.getProperties().getExpiresOn().toInstant(), expires.toInstant());
            Checks.same(read.getProperties().getContentType(), "x/y");
            Checks.same(read.getProperties().getTags(), Map.of("b", "2"));
        });
        Checks.check("secrets: a disabled secret is not read: 403", () -> {
            SecretProperties properties = CLIENT.getSecret(name).getProperties();
            CLIENT.updateSecretProperties(properties.setEnabled(false));
            Checks.refused(403, "Forbidden", () -> CLIENT.getSecret(name));
            CLIENT.updateSecretProperties(properties.setEnabled(true));
            Checks.same(CLIENT.getSecret(name).getValue(), "two");
        });
        Checks.check("secrets: 25,000 characters", () -> {
            String value = "0123456789".repeat(2500);
            CLIENT.setSecret(fresh("long"), value);
            Checks.same(CLIENT.getSecret(Checks.named("long")).getValue(), value);
        });
    }

    private static void life() {
        String name = fresh("life");
        var saved = new byte[1][];
        Checks.check("secrets: delete; the name is taken and the value is gone", () -> {
            CLIENT.setSecret(name, "kept");
            saved[0] = CLIENT.backupSecret(name);
            Checks.settled(CLIENT.beginDeleteSecret(name));
            Checks.same(CLIENT.getDeletedSecret(name).getRecoveryId(), Checks.VAULT + "/deletedsecrets/" + name);
            Checks.refused(404, "SecretNotFound", () -> CLIENT.getSecret(name));
            Checks.refused(409, "Conflict", () -> CLIENT.setSecret(name, "other"));
            var names = Checks.pages(CLIENT.listDeletedSecrets()).items().stream().map(DeletedSecret::getName);
            Checks.that(names.anyMatch(name::equals), "not in the list of deleted secrets");
        });
        Checks.check("secrets: recover; the value is back", () -> {
            Checks.settled(CLIENT.beginRecoverDeletedSecret(name));
            Checks.same(CLIENT.getSecret(name).getValue(), "kept");
        });
        Checks.check("secrets: purge; restore from the backup", () -> {
            remove(name);
            Checks.refused(404, null, () -> CLIENT.getDeletedSecret(name));
            CLIENT.restoreSecretBackup(saved[0]);
            Checks.same(CLIENT.getSecret(name).getValue(), "kept");
        });
    }

    private static void lists() {
        Checks.check("secrets: 27 secrets come in pages of at most 25", () -> {
            List<String> names = IntStream.range(0, 27).mapToObj(number -> fresh("list" + number)).toList();
            Checks.each(names, name -> CLIENT.setSecret(name, name));
            var found = Checks.pages(CLIENT.listPropertiesOfSecrets());
            Checks.that(found.count() >= 2, found.count() + " pages");
            var ids = found.items().stream().map(SecretProperties::getId).collect(Collectors.toSet());
            for (String name : names) {
                Checks.that(ids.contains(Checks.VAULT + "/secrets/" + name), name + " is not in the list");
            }
        });
    }

    private static void purge() throws Exception {
        var left = Checks.pages(CLIENT.listPropertiesOfSecrets()).items().stream().map(SecretProperties::getName);
        Checks.each(left.filter(MADE::contains).toList(), Secrets::remove);
        for (DeletedSecret secret : CLIENT.listDeletedSecrets()) {
            Checks.that(!MADE.contains(secret.getName()), secret.getName() + " is left");
        }
    }
}
