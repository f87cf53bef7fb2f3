import com.azure.security.keyvault.keys.KeyClient;
import com.azure.security.keyvault.keys.KeyClientBuilder;
import com.azure.security.keyvault.keys.cryptography.CryptographyClient;
import com.azure.security.keyvault.keys.cryptography.CryptographyClientBuilder;
import com.azure.security.keyvault.keys.cryptography.models.DecryptParameters;
import com.azure.security.keyvault.keys.cryptography.models.EncryptParameters;
import com.azure.security.keyvault.keys.cryptography.models.EncryptionAlgorithm;
import com.azure.security.keyvault.keys.cryptography.models.KeyWrapAlgorithm;
import com.azure.security.keyvault.keys.cryptography.models.SignatureAlgorithm;
import com.azure.security.keyvault.keys.models.CreateEcKeyOptions;
import com.azure.security.keyvault.keys.models.CreateOctKeyOptions;
import com.azure.security.keyvault.keys.models.CreateRsaKeyOptions;
import com.azure.security.keyvault.keys.models.DeletedKey;
import com.azure.security.keyvault.keys.models.JsonWebKey;
import com.azure.security.keyvault.keys.models.KeyCurveName;
import com.azure.security.keyvault.keys.models.KeyOperation;
import com.azure.security.keyvault.keys.models.KeyProperties;
import com.azure.security.keyvault.keys.models.KeyRotationLifetimeAction;
import com.azure.security.keyvault.keys.models.KeyRotationPolicy;
import com.azure.security.keyvault.keys.models.KeyRotationPolicyAction;
import com.azure.security.keyvault.keys.models.KeyType;
import com.azure.security.keyvault.keys.models.KeyVaultKey;
import com.azure.core.credential.TokenCredential;
import com.azure.core.util.Context;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.AlgorithmParameters;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyPairGenerator;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECParameterSpec;
import java.security.spec.ECPoint;
import java.security.spec.ECPublicKeySpec;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PSSParameterSpec;
import java.security.spec.RSAPublicKeySpec;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import javax.crypto.Cipher;
import javax.crypto.spec.OAEPParameterSpec;
import javax.crypto.spec.PSource;

/**
 * Keys with azure-security-keyvault-keys: made, used, rotated, changed, deleted, recovered, purged, listed. Java's
 * own crypto checks what comes back: with the public key alone, or with a key made here and imported.
 */
final class Keys {
    private static final byte[] TEXT = "attack at dawn".getBytes(StandardCharsets.UTF_8);
    private static final KeyClient CLIENT = client(Checks.CREDENTIAL);
    private static final List<String> MADE = Collections.synchronizedList(new ArrayList<>());

    private Keys() {}

    private static KeyClient client(TokenCredential credential) {
        var builder = new KeyClientBuilder().vaultUrl(Checks.VAULT).credential(credential);
        builder.httpClient(Checks.HTTP).retryOptions(Checks.RETRY);
        return (Checks.verificationOff() ? builder.disableChallengeResourceVerification() : builder).buildClient();
    }

    private static CryptographyClient using(KeyVaultKey key) {
        var builder = new CryptographyClientBuilder().keyIdentifier(key.getId()).credential(Checks.CREDENTIAL);
        builder.httpClient(Checks.HTTP).retryOptions(Checks.RETRY);
        return (Checks.verificationOff() ? builder.disableChallengeResourceVerification() : builder).buildClient();
    }

    /** A name that is deleted and purged at the end. */
    private static String fresh(String what) {
        String name = Checks.named(what);
        MADE.add(name);
        return name;
    }

    private static byte[] digest(String algorithm, byte[] data) throws GeneralSecurityException {
        return MessageDigest.getInstance("SHA-" + algorithm.substring(2)).digest(data);
    }

    private static BigInteger number(byte[] bytes) {
        return new BigInteger(1, bytes);
    }

    /** The public key as Java knows it. */
    private static PublicKey publicKey(KeyVaultKey key) throws GeneralSecurityException {
        JsonWebKey jwk = key.getKey();
        if (jwk.getCurveName() == null) {
            return KeyFactory.getInstance("RSA").generatePublic(new RSAPublicKeySpec(number(jwk.getN()), number(jwk.getE())));
        }
        AlgorithmParameters parameters = AlgorithmParameters.getInstance("EC");
        parameters.init(new ECGenParameterSpec("secp" + jwk.getCurveName().toString().substring(2) + "r1"));
        ECPoint point = new ECPoint(number(jwk.getX()), number(jwk.getY()));
        ECParameterSpec curve = parameters.getParameterSpec(ECParameterSpec.class);
        return KeyFactory.getInstance("EC").generatePublic(new ECPublicKeySpec(point, curve));
    }

    /** Whether Java believes a signature over the text, with nothing but the public key. */
    private static boolean verifies(PublicKey key, String algorithm, byte[] signature) throws GeneralSecurityException {
        String bits = algorithm.substring(2);
        Signature java = Signature.getInstance(switch (algorithm.substring(0, 2)) {
            case "RS" -> "SHA" + bits + "withRSA";
            case "PS" -> "RSASSA-PSS";
            default -> "SHA" + bits + "withECDSAinP1363Format";
        });
        if (algorithm.startsWith("PS")) {
            String hash = "SHA-" + bits;
            int salt = Integer.parseInt(bits) / 8;
            java.setParameter(new PSSParameterSpec(hash, "MGF1", new MGF1ParameterSpec(hash), salt, 1));
        }
        java.initVerify(key);
        java.update(TEXT);
        return java.verify(signature);
    }

    /** Signs there; Java verifies, and so does the SDK, which does it here when it can. */
    private static void signs(KeyVaultKey key, String algorithm) throws GeneralSecurityException {
        SignatureAlgorithm named = SignatureAlgorithm.fromString(algorithm);
        byte[] digest = digest(algorithm, TEXT);
        var signed = using(key).sign(named, digest);
        Checks.same(signed.getKeyId(), key.getId());
        Checks.that(verifies(publicKey(key), algorithm, signed.getSignature()), "a false signature");
        Checks.that(using(key).verify(named, digest, signed.getSignature()).isValid(), "refused by the SDK");
        byte[] other = digest(algorithm, new byte[] {1});
        Checks.that(!using(key).verify(named, other, signed.getSignature()).isValid(), "believed for another text");
    }

    private static KeyVaultKey p256(String name) {
        return CLIENT.createEcKey(new CreateEcKeyOptions(name).setCurveName(KeyCurveName.P_256));
    }

    private static void remove(String name) {
        Checks.settled(CLIENT.beginDeleteKey(name));
        CLIENT.purgeDeletedKey(name);
    }

    static void run() {
        refusals();
        rsa();
        ec();
        if (!Checks.skipped("oct")) {
            symmetric();
        }
        attributes();
        imports();
        life();
        lists();
        Checks.check("keys: what was made is purged", Keys::purge);
    }

    private static void refusals() {
        String none = Checks.named("none");
        Checks.check("keys: an unknown key: 404 KeyNotFound", () -> Checks.refused(404, "KeyNotFound", () -> CLIENT.getKey(none)));
        Checks.check("keys: a false token: 401", () -> {
            KeyClient stranger = client(Checks.credential("false"));
            Checks.refused(401, null, () -> stranger.getKey(none));
        });
        Checks.check("keys: a digest of the wrong length: 400", () -> {
            KeyVaultKey key = p256(fresh("digest"));
            byte[] long_ = digest("ES512", TEXT);
            Checks.refused(400, "BadParameter", () -> using(key).sign(SignatureAlgorithm.ES256, long_));
        });
    }

    private static void rsa() {
        String name = fresh("rsa");
        Checks.check("keys: create RSA 2048", () -> {
            var asked = new CreateRsaKeyOptions(name).setKeySize(2048).setTags(Map.of("team", "blue"));
            KeyVaultKey key = CLIENT.createRsaKey(asked);
            Checks.same(key.getKeyType(), KeyType.RSA);
            Checks.that(key.getId().startsWith(Checks.VAULT + "/keys/" + name + "/"), key.getId());
            Checks.same(number(key.getKey().getN()).bitLength(), 2048);
            Checks.same(key.getProperties().getTags(), Map.of("team", "blue"));
            Checks.same(CLIENT.getKey(name).getId(), key.getId());
            Checks.same(CLIENT.getKey(name, key.getProperties().getVersion()).getId(), key.getId());
        });
        for (String algorithm : List.of("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")) {
            Checks.check("keys: " + algorithm + ", verified by Java", () -> signs(CLIENT.getKey(name), algorithm));
        }
        Checks.check("keys: RSA-OAEP-256, encrypted here, decrypted there", () -> decrypts(CLIENT.getKey(name)));
        for (var algorithm : List.of(EncryptionAlgorithm.RSA_OAEP_256, EncryptionAlgorithm.RSA_OAEP, EncryptionAlgorithm.RSA1_5)) {
            Checks.check("keys: " + algorithm + ", encrypted and decrypted", () -> {
                CryptographyClient key = using(CLIENT.getKey(name));
                byte[] sealed = key.encrypt(algorithm, TEXT).getCipherText();
                Checks.same(key.decrypt(algorithm, sealed).getPlainText(), TEXT);
            });
        }
        Checks.check("keys: RSA-OAEP-256 wraps and unwraps a key", () -> wraps(CLIENT.getKey(name), KeyWrapAlgorithm.RSA_OAEP_256));
        Checks.check("keys: without a version the newest one works", () -> {
            var signed = CLIENT.getCryptographyClient(name).sign(SignatureAlgorithm.RS256, digest("RS256", TEXT));
            Checks.that(verifies(publicKey(CLIENT.getKey(name)), "RS256", signed.getSignature()), "a false signature");
        });
        rotation(name);
    }

    /** Encrypts here, with the public key, and decrypts there. */
    private static void decrypts(KeyVaultKey key) throws GeneralSecurityException {
        Cipher cipher = Cipher.getInstance("RSA/ECB/OAEPPadding");
        var parameters = new OAEPParameterSpec("SHA-256", "MGF1", MGF1ParameterSpec.SHA256, PSource.PSpecified.DEFAULT);
        cipher.init(Cipher.ENCRYPT_MODE, publicKey(key), parameters);
        byte[] sealed = cipher.doFinal(TEXT);
        Checks.same(using(key).decrypt(EncryptionAlgorithm.RSA_OAEP_256, sealed).getPlainText(), TEXT);
    }

    private static void wraps(KeyVaultKey key, KeyWrapAlgorithm algorithm) {
        byte[] data = new byte[32];
        new SecureRandom().nextBytes(data);
        byte[] wrapped = using(key).wrapKey(algorithm, data).getEncryptedKey();
        Checks.same(using(key).unwrapKey(algorithm, wrapped).getKey(), data);
    }

    private static void ec() {
        var curves = Map.of("ES256", KeyCurveName.P_256, "ES384", KeyCurveName.P_384, "ES512", KeyCurveName.P_521);
        curves.forEach((algorithm, curve) -> Checks.check("keys: EC " + curve + "; " + algorithm + ", verified by Java", () -> {
            KeyVaultKey key = CLIENT.createEcKey(new CreateEcKeyOptions(fresh(algorithm)).setCurveName(curve));
            Checks.same(key.getKeyType(), KeyType.EC);
            Checks.same(key.getKey().getCurveName(), curve);
            signs(key, algorithm);
        }));
    }

    private static void symmetric() {
        String name = fresh("oct");
        Checks.check("oct: create 256 bits", () -> {
            var operations = new KeyOperation[] {
                KeyOperation.ENCRYPT, KeyOperation.DECRYPT, KeyOperation.WRAP_KEY, KeyOperation.UNWRAP_KEY
            };
            var asked = new CreateOctKeyOptions(name).setKeySize(256).setHardwareProtected(true).setKeyOperations(operations);
            KeyVaultKey key = CLIENT.createOctKey(asked);
            Checks.same(key.getKeyType(), KeyType.OCT_HSM);
            Checks.same(key.getKey().getK(), null);
        });
        Checks.check("oct: A256GCM, encrypted and decrypted with additional data", () -> {
            byte[] row = {7};
            CryptographyClient key = using(CLIENT.getKey(name));
            var sealed = key.encrypt(EncryptParameters.createA256GcmParameters(TEXT, row), Context.NONE);
            Checks.same(sealed.getIv().length, 12);
            byte[] iv = sealed.getIv();
            byte[] tag = sealed.getAuthenticationTag();
            var asked = DecryptParameters.createA256GcmParameters(sealed.getCipherText(), iv, tag, row);
            Checks.same(key.decrypt(asked, Context.NONE).getPlainText(), TEXT);
            var wrong = DecryptParameters.createA256GcmParameters(sealed.getCipherText(), iv, tag, new byte[] {8});
            Checks.refused(400, null, () -> key.decrypt(wrong, Context.NONE));
        });
        Checks.check("oct: A256KW wraps and unwraps a key", () -> wraps(CLIENT.getKey(name), KeyWrapAlgorithm.A256KW));
        Checks.check("oct: random bytes", () -> Checks.same(CLIENT.getRandomBytes(24).length, 24));
    }

    private static void rotation(String name) {
        Checks.check("keys: a rotation policy is kept", () -> {
            var action = new KeyRotationLifetimeAction(KeyRotationPolicyAction.ROTATE).setTimeAfterCreate("P30D");
            var policy = new KeyRotationPolicy().setExpiresIn("P90D").setLifetimeActions(List.of(action));
            CLIENT.updateKeyRotationPolicy(name, policy);
            KeyRotationPolicy kept = CLIENT.getKeyRotationPolicy(name);
            Checks.same(kept.getExpiresIn(), "P90D");
            var rotates = kept.getLifetimeActions().stream().filter(one -> one.getAction() == KeyRotationPolicyAction.ROTATE);
            Checks.same(rotates.findFirst().orElseThrow().getTimeAfterCreate(), "P30D");
        });
        Checks.check("keys: rotate; the old version still decrypts", () -> {
            KeyVaultKey key = CLIENT.getKey(name);
            KeyVaultKey next = CLIENT.rotateKey(name);
            Checks.that(!next.getId().equals(key.getId()), "the same version");
            decrypts(key);
            decrypts(next);
            var versions = Checks.pages(CLIENT.listPropertiesOfKeyVersions(name)).items().stream();
            var ids = versions.map(KeyProperties::getId).collect(Collectors.toSet());
            Checks.same(ids, java.util.Set.of(key.getId(), next.getId()));
        });
    }

    /** Without operations the SDK sends an empty list of them, which takes away what the key may do. */
    private static KeyVaultKey update(KeyVaultKey key, KeyProperties properties) {
        return CLIENT.updateKeyProperties(properties, key.getKeyOperations().toArray(KeyOperation[]::new));
    }

    private static void attributes() {
        String name = fresh("attributes");
        Checks.check("keys: attributes change, and the others stay", () -> {
            KeyVaultKey key = p256(name);
            OffsetDateTime expires = OffsetDateTime.parse("2040-01-02T03:04:05Z");
            KeyProperties asked = key.getProperties().setExpiresOn(expires).setTags(Map.of("b", "2"));
            KeyVaultKey changed = update(key, asked);
            Checks.same(changed.getProperties().getExpiresOn().toInstant(), expires.toInstant());
            Checks.same(changed.getProperties().getTags(), Map.of("b", "2"));
            Checks.same(changed.getProperties().isEnabled(), true);
            Checks.same(changed.getKey().getX(), key.getKey().getX());
        });
        Checks.check("keys: a disabled key does not sign: 403", () -> {
            KeyVaultKey key = CLIENT.getKey(name);
            byte[] digest = digest("ES256", TEXT);
            update(key, key.getProperties().setEnabled(false));
            Checks.refused(403, "Forbidden", () -> using(key).sign(SignatureAlgorithm.ES256, digest));
            update(key, key.getProperties().setEnabled(true));
            signs(key, "ES256");
        });
        Checks.check("keys: key_ops change", () -> {
            KeyVaultKey key = CLIENT.getKey(name);
            KeyVaultKey changed = CLIENT.updateKeyProperties(key.getProperties(), KeyOperation.VERIFY);
            Checks.same(changed.getKeyOperations(), List.of(KeyOperation.VERIFY));
        });
    }

    private static void imports() {
        Checks.check("keys: import an RSA key made here", () -> {
            var generator = KeyPairGenerator.getInstance("RSA");
            generator.initialize(2048);
            var pair = generator.generateKeyPair();
            var operations = List.of(KeyOperation.SIGN, KeyOperation.VERIFY, KeyOperation.DECRYPT);
            KeyVaultKey key = CLIENT.importKey(fresh("imported"), JsonWebKey.fromRsa(pair, operations));
            Checks.same(key.getKey().getD(), null);
            byte[] signature = using(key).sign(SignatureAlgorithm.PS256, digest("PS256", TEXT)).getSignature();
            Checks.that(verifies(pair.getPublic(), "PS256", signature), "a false signature");
        });
    }

    private static void life() {
        String name = fresh("life");
        var saved = new byte[1][];
        var id = new String[1];
        Checks.check("keys: delete; the name is taken and the key is gone", () -> {
            id[0] = p256(name).getId();
            saved[0] = CLIENT.backupKey(name);
            Checks.settled(CLIENT.beginDeleteKey(name));
            DeletedKey deleted = CLIENT.getDeletedKey(name);
            Checks.same(deleted.getRecoveryId(), Checks.VAULT + "/deletedkeys/" + name);
            Checks.that(deleted.getScheduledPurgeDate().isAfter(deleted.getDeletedOn()), "purged before it is deleted");
            Checks.refused(404, "KeyNotFound", () -> CLIENT.getKey(name));
            Checks.refused(409, "Conflict", () -> p256(name));
            var names = Checks.pages(CLIENT.listDeletedKeys()).items().stream().map(DeletedKey::getName);
            Checks.that(names.anyMatch(name::equals), "not in the list of deleted keys");
        });
        Checks.check("keys: recover; it signs as before", () -> {
            Checks.settled(CLIENT.beginRecoverDeletedKey(name));
            KeyVaultKey key = CLIENT.getKey(name);
            Checks.same(key.getId(), id[0]);
            signs(key, "ES256");
        });
        Checks.check("keys: purge; restore from the backup", () -> {
            remove(name);
            Checks.refused(404, null, () -> CLIENT.getDeletedKey(name));
            KeyVaultKey restored = CLIENT.restoreKeyBackup(saved[0]);
            Checks.same(restored.getId(), id[0]);
            signs(restored, "ES256");
        });
    }

    private static void lists() {
        Checks.check("keys: 27 keys come in pages of at most 25", () -> {
            List<String> names = IntStream.range(0, 27).mapToObj(number -> fresh("list" + number)).toList();
            Checks.each(names, Keys::p256);
            var found = Checks.pages(CLIENT.listPropertiesOfKeys());
            Checks.that(found.count() >= 2, found.count() + " pages");
            var ids = found.items().stream().map(KeyProperties::getId).collect(Collectors.toSet());
            for (String name : names) {
                Checks.that(ids.contains(Checks.VAULT + "/keys/" + name), name + " is not in the list");
            }
        });
    }

    private static void purge() throws Exception {
        var left = Checks.pages(CLIENT.listPropertiesOfKeys()).items().stream().map(KeyProperties::getName);
        Checks.each(left.filter(MADE::contains).toList(), Keys::remove);
        for (DeletedKey key : CLIENT.listDeletedKeys()) {
            Checks.that(!MADE.contains(key.getName()), key.getName() + " is left");
        }
    }
}
