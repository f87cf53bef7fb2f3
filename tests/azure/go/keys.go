package main

// Keys with azkeys: made, used, rotated, changed, deleted, recovered, purged, listed. Go's own crypto checks
// what comes back: with the public key alone, or with a key made here and imported.

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

var (
	text     = []byte("attack at dawn")
	madeKeys []string
	hashes   = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
)

func keyClient(token string) *azkeys.Client {
	client, err := azkeys.NewClient(vault, static(token), &azkeys.ClientOptions{
		ClientOptions:                        options(),
		DisableChallengeResourceVerification: verificationOff(),
	})
	must(err)
	return client
}

// freshKey is a name that is deleted and purged at the end.
func freshKey(what string) string {
	name := named(what)
	madeKeys = append(madeKeys, name)
	return name
}

func digest(algorithm string, data []byte) []byte {
	hash := hashes[algorithm[2:5]].New()
	hash.Write(data)
	return hash.Sum(nil)
}

func rsaPublic(key *azkeys.JSONWebKey) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(key.N), E: int(new(big.Int).SetBytes(key.E).Int64())}
}

// verifies says whether Go believes a signature over text, with nothing but the public key.
func verifies(key *azkeys.JSONWebKey, algorithm string, signature []byte) bool {
	hash, sum := hashes[algorithm[2:5]], digest(algorithm, text)
	switch algorithm[:2] {
	case "RS":
		return rsa.VerifyPKCS1v15(rsaPublic(key), hash, sum, signature) == nil
	case "PS":
		return rsa.VerifyPSS(rsaPublic(key), hash, sum, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	default:
		curve := map[azkeys.CurveName]elliptic.Curve{
			azkeys.CurveNameP256: elliptic.P256(), azkeys.CurveNameP384: elliptic.P384(), azkeys.CurveNameP521: elliptic.P521(),
		}[*key.Crv]
		size := (curve.Params().BitSize + 7) / 8
		that(len(key.X) == size && len(key.Y) == size, "coordinates of %d and %d bytes", len(key.X), len(key.Y))
		that(len(signature) == 2*size, "a signature of %d bytes", len(signature))
		public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, key.X, key.Y))
		must(err)
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(public, sum, r, s)
	}
}

// signs signs there and verifies here and there.
func signs(client *azkeys.Client, key *azkeys.JSONWebKey, algorithm azkeys.SignatureAlgorithm) {
	name, version, sum := key.KID.Name(), key.KID.Version(), digest(string(algorithm), text)
	signed, err := client.Sign(ctx, name, version, azkeys.SignParameters{Algorithm: &algorithm, Value: sum}, nil)
	must(err)
	same(*signed.KID, *key.KID)
	that(verifies(key, string(algorithm), signed.Result), "%s: a false signature", algorithm)
	for _, wanted := range []bool{true, false} {
		if !wanted {
			sum = digest(string(algorithm), []byte("another text"))
		}
		asked := azkeys.VerifyParameters{Algorithm: &algorithm, Digest: sum, Signature: signed.Result}
		answer, err := client.Verify(ctx, name, version, asked, nil)
		must(err)
		same(*answer.Value, wanted)
	}
}

func create(client *azkeys.Client, what string, asked azkeys.CreateKeyParameters) *azkeys.JSONWebKey {
	made, err := client.CreateKey(ctx, freshKey(what), asked, nil)
	must(err)
	return made.Key
}

func p256() azkeys.CreateKeyParameters {
	return azkeys.CreateKeyParameters{Kty: to(azkeys.KeyTypeEC), Curve: to(azkeys.CurveNameP256)}
}

func removeKey(client *azkeys.Client, name string) error {
	if _, err := client.DeleteKey(ctx, name, nil); err != nil {
		return err
	}
	eventually(func() error { _, err := client.GetDeletedKey(ctx, name, nil); return err })
	_, err := client.PurgeDeletedKey(ctx, name, nil)
	return err
}

func keys() {
	client := keyClient(token)
	check("keys: an unknown key: 404 KeyNotFound", func() {
		_, err := client.GetKey(ctx, named("none"), "", nil)
		refused(err, 404, "KeyNotFound")
	})
	check("keys: a false token: 401", func() {
		_, err := keyClient("false").GetKey(ctx, named("none"), "", nil)
		refused(err, 401, "")
	})
	rsaKeys(client)
	ecKeys(client)
	if !skipped("oct") {
		symmetricKeys(client)
	}
	attributes(client)
	imports(client)
	keyLife(client)
	keyLists(client)
	check("keys: what was made is purged", func() { purgeKeys(client) })
}

func rsaKeys(client *azkeys.Client) {
	var key *azkeys.JSONWebKey
	check("keys: create RSA 2048", func() {
		key = create(client, "rsa", azkeys.CreateKeyParameters{
			Kty: to(azkeys.KeyTypeRSA), KeySize: to(int32(2048)), Tags: map[string]*string{"team": to("blue")},
		})
		same(*key.Kty, azkeys.KeyTypeRSA)
		same(len(key.N), 256)
		that(strings.HasPrefix(string(*key.KID), vault+"/keys/"+named("rsa")+"/"), "%s", *key.KID)
	})
	if key == nil {
		return
	}
	name, version := key.KID.Name(), key.KID.Version()
	check("keys: get gives the same version", func() {
		for _, version := range []string{"", version} {
			got, err := client.GetKey(ctx, name, version, nil)
			must(err)
			same(*got.Key.KID, *key.KID)
			same(*got.Tags["team"], "blue")
		}
	})
	for _, algorithm := range []azkeys.SignatureAlgorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		check(fmt.Sprintf("keys: %s, verified here and there", algorithm), func() { signs(client, key, algorithm) })
	}
	check("keys: RSA-OAEP-256, encrypted here, decrypted there", func() { decrypts(client, key) })
	for _, algorithm := range []azkeys.EncryptionAlgorithm{"RSA-OAEP-256", "RSA-OAEP", "RSA1_5"} {
		check(fmt.Sprintf("keys: %s, encrypted and decrypted", algorithm), func() {
			sealed, err := client.Encrypt(ctx, name, version, azkeys.KeyOperationParameters{Algorithm: &algorithm, Value: text}, nil)
			must(err)
			opened, err := client.Decrypt(ctx, name, version, azkeys.KeyOperationParameters{Algorithm: &algorithm, Value: sealed.Result}, nil)
			must(err)
			that(bytes.Equal(opened.Result, text), "got %q", opened.Result)
		})
	}
	check("keys: RSA-OAEP-256 wraps and unwraps a key", func() { wraps(client, key, azkeys.EncryptionAlgorithmRSAOAEP256) })
	check("keys: without a version the newest one works", func() {
		asked := azkeys.SignParameters{Algorithm: to(azkeys.SignatureAlgorithmRS256), Value: digest("RS256", text)}
		signed, err := client.Sign(ctx, name, "", asked, nil)
		must(err)
		same(*signed.KID, *key.KID)
		that(verifies(key, "RS256", signed.Result), "a false signature")
	})
	rotation(client, key)
}

// decrypts encrypts here, with the public key, and decrypts there.
func decrypts(client *azkeys.Client, key *azkeys.JSONWebKey) {
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, rsaPublic(key), text, nil)
	must(err)
	asked := azkeys.KeyOperationParameters{Algorithm: to(azkeys.EncryptionAlgorithmRSAOAEP256), Value: sealed}
	opened, err := client.Decrypt(ctx, key.KID.Name(), key.KID.Version(), asked, nil)
	must(err)
	that(bytes.Equal(opened.Result, text), "got %q", opened.Result)
}

func wraps(client *azkeys.Client, key *azkeys.JSONWebKey, algorithm azkeys.EncryptionAlgorithm) {
	name, version, data := key.KID.Name(), key.KID.Version(), random(32)
	wrapped, err := client.WrapKey(ctx, name, version, azkeys.KeyOperationParameters{Algorithm: &algorithm, Value: data}, nil)
	must(err)
	opened, err := client.UnwrapKey(ctx, name, version, azkeys.KeyOperationParameters{Algorithm: &algorithm, Value: wrapped.Result}, nil)
	must(err)
	that(bytes.Equal(opened.Result, data), "another key came back")
}

func ecKeys(client *azkeys.Client) {
	for _, curve := range []azkeys.CurveName{azkeys.CurveNameP256, azkeys.CurveNameP384, azkeys.CurveNameP521} {
		algorithm := map[azkeys.CurveName]azkeys.SignatureAlgorithm{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[curve]
		check(fmt.Sprintf("keys: EC %s; %s, verified here and there", curve, algorithm), func() {
			asked := azkeys.CreateKeyParameters{Kty: to(azkeys.KeyTypeEC), Curve: &curve}
			key := create(client, "ec"+string(curve[2:]), asked)
			same(*key.Kty, azkeys.KeyTypeEC)
			same(*key.Crv, curve)
			signs(client, key, algorithm)
		})
	}
	check("keys: a digest of the wrong length: 400", func() {
		key := create(client, "digest", p256())
		asked := azkeys.SignParameters{Algorithm: to(azkeys.SignatureAlgorithmES256), Value: digest("ES512", text)}
		_, err := client.Sign(ctx, key.KID.Name(), key.KID.Version(), asked, nil)
		refused(err, 400, "BadParameter")
	})
}

func symmetricKeys(client *azkeys.Client) {
	var key *azkeys.JSONWebKey
	check("oct: create 256 bits", func() {
		operations := []*azkeys.KeyOperation{to(azkeys.KeyOperationEncrypt), to(azkeys.KeyOperationDecrypt),
			to(azkeys.KeyOperationWrapKey), to(azkeys.KeyOperationUnwrapKey)}
		key = create(client, "oct", azkeys.CreateKeyParameters{Kty: to(azkeys.KeyTypeOctHSM), KeySize: to(int32(256)), KeyOps: operations})
		same(*key.Kty, azkeys.KeyTypeOctHSM)
		same(len(key.K), 0)
	})
	if key == nil {
		return
	}
	name, version, algorithm := key.KID.Name(), key.KID.Version(), to(azkeys.EncryptionAlgorithmA256GCM)
	check("oct: A256GCM, encrypted and decrypted with additional data", func() {
		asked := azkeys.KeyOperationParameters{Algorithm: algorithm, Value: text, AdditionalAuthenticatedData: []byte("row 7")}
		sealed, err := client.Encrypt(ctx, name, version, asked, nil)
		must(err)
		same(len(sealed.IV), 12)
		same(len(sealed.AuthenticationTag), 16)
		asked = azkeys.KeyOperationParameters{Algorithm: algorithm, Value: sealed.Result, IV: sealed.IV,
			AuthenticationTag: sealed.AuthenticationTag, AdditionalAuthenticatedData: []byte("row 7")}
		opened, err := client.Decrypt(ctx, name, version, asked, nil)
		must(err)
		that(bytes.Equal(opened.Result, text), "got %q", opened.Result)
		asked.AdditionalAuthenticatedData = []byte("row 8")
		_, err = client.Decrypt(ctx, name, version, asked, nil)
		refused(err, 400, "")
	})
	check("oct: A256KW wraps and unwraps a key", func() { wraps(client, key, azkeys.EncryptionAlgorithmA256KW) })
	check("oct: random bytes", func() {
		answer, err := client.GetRandomBytes(ctx, azkeys.GetRandomBytesParameters{Count: to(int32(24))}, nil)
		must(err)
		same(len(answer.Value), 24)
	})
}

func rotation(client *azkeys.Client, key *azkeys.JSONWebKey) {
	name := key.KID.Name()
	check("keys: a rotation policy is kept", func() {
		_, err := client.UpdateKeyRotationPolicy(ctx, name, azkeys.KeyRotationPolicy{
			Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: to("P90D")},
			LifetimeActions: []*azkeys.LifetimeAction{{
				Action:  &azkeys.LifetimeActionType{Type: to(azkeys.KeyRotationPolicyActionRotate)},
				Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: to("P30D")},
			}},
		}, nil)
		must(err)
		policy, err := client.GetKeyRotationPolicy(ctx, name, nil)
		must(err)
		same(*policy.Attributes.ExpiryTime, "P90D")
		rotates := func(action *azkeys.LifetimeAction) bool {
			return strings.EqualFold(string(*action.Action.Type), "rotate")
		}
		at := slices.IndexFunc(policy.LifetimeActions, rotates)
		that(at >= 0, "no action rotates")
		same(*policy.LifetimeActions[at].Trigger.TimeAfterCreate, "P30D")
	})
	check("keys: rotate; the old version still decrypts", func() {
		next, err := client.RotateKey(ctx, name, nil)
		must(err)
		that(*next.Key.KID != *key.KID, "the same version")
		decrypts(client, key)
		decrypts(client, next.Key)
		versions, _ := pages(client.NewListKeyPropertiesVersionsPager(name, nil),
			func(page azkeys.ListKeyPropertiesVersionsResponse) []*azkeys.KeyProperties { return page.Value })
		same(len(versions), 2)
		for _, version := range versions {
			that(*version.KID == *key.KID || *version.KID == *next.Key.KID, "%s", *version.KID)
		}
	})
}

func attributes(client *azkeys.Client) {
	var key *azkeys.JSONWebKey
	update := func(asked azkeys.UpdateKeyParameters) azkeys.UpdateKeyResponse {
		changed, err := client.UpdateKey(ctx, key.KID.Name(), key.KID.Version(), asked, nil)
		must(err)
		return changed
	}
	sign := func() error {
		asked := azkeys.SignParameters{Algorithm: to(azkeys.SignatureAlgorithmES256), Value: digest("ES256", text)}
		_, err := client.Sign(ctx, key.KID.Name(), key.KID.Version(), asked, nil)
		return err
	}
	check("keys: attributes change, and the others stay", func() {
		key = create(client, "attributes", p256())
		expires := time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
		changed := update(azkeys.UpdateKeyParameters{
			KeyAttributes: &azkeys.KeyAttributes{Expires: &expires}, Tags: map[string]*string{"b": to("2")},
		})
		that(changed.Attributes.Expires.Equal(expires), "expires %v", changed.Attributes.Expires)
		same(*changed.Attributes.Enabled, true)
		same(*changed.Tags["b"], "2")
		that(bytes.Equal(changed.Key.X, key.X), "another key")
	})
	check("keys: a disabled key does not sign: 403", func() {
		update(azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to(false)}})
		refused(sign(), 403, "Forbidden")
		update(azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to(true)}})
		signs(client, key, azkeys.SignatureAlgorithmES256)
	})
	check("keys: what key_ops leaves out is refused: 403", func() {
		changed := update(azkeys.UpdateKeyParameters{KeyOps: []*azkeys.KeyOperation{to(azkeys.KeyOperationVerify)}})
		same(len(changed.Key.KeyOps), 1)
		refused(sign(), 403, "Forbidden")
	})
}

func imports(client *azkeys.Client) {
	check("keys: import an RSA key made here", func() {
		pair, err := rsa.GenerateKey(rand.Reader, 2048)
		must(err)
		key := &azkeys.JSONWebKey{
			Kty: to(azkeys.KeyTypeRSA), N: pair.N.Bytes(), E: big.NewInt(int64(pair.E)).Bytes(), D: pair.D.Bytes(),
			P: pair.Primes[0].Bytes(), Q: pair.Primes[1].Bytes(),
			DP: pair.Precomputed.Dp.Bytes(), DQ: pair.Precomputed.Dq.Bytes(), QI: pair.Precomputed.Qinv.Bytes(),
		}
		imported, err := client.ImportKey(ctx, freshKey("imported"), azkeys.ImportKeyParameters{Key: key}, nil)
		must(err)
		same(len(imported.Key.D), 0)
		that(bytes.Equal(imported.Key.N, key.N), "another key")
		signs(client, imported.Key, azkeys.SignatureAlgorithmPS256)
	})
}

func keyLife(client *azkeys.Client) {
	var (
		name  = freshKey("life")
		key   *azkeys.JSONWebKey
		saved azkeys.BackupKeyResponse
	)
	check("keys: delete; the name is taken and the key is gone", func() {
		made, err := client.CreateKey(ctx, name, p256(), nil)
		must(err)
		key = made.Key
		saved, err = client.BackupKey(ctx, name, nil)
		must(err)
		deleted, err := client.DeleteKey(ctx, name, nil)
		must(err)
		same(*deleted.RecoveryID, vault+"/deletedkeys/"+name)
		that(deleted.ScheduledPurgeDate.After(*deleted.DeletedDate), "purged at %v", deleted.ScheduledPurgeDate)
		eventually(func() error { _, err := client.GetDeletedKey(ctx, name, nil); return err })
		_, err = client.GetKey(ctx, name, "", nil)
		refused(err, 404, "KeyNotFound")
		_, err = client.CreateKey(ctx, name, p256(), nil)
		refused(err, 409, "Conflict")
		that(slices.Contains(deletedKeys(client), name), "not in the list of deleted keys")
	})
	check("keys: recover; it signs as before", func() {
		_, err := client.RecoverDeletedKey(ctx, name, nil)
		must(err)
		eventually(func() error { _, err := client.GetKey(ctx, name, "", nil); return err })
		signs(client, key, azkeys.SignatureAlgorithmES256)
	})
	check("keys: purge; restore from the backup", func() {
		must(removeKey(client, name))
		_, err := client.GetDeletedKey(ctx, name, nil)
		refused(err, 404, "")
		restored, err := client.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: saved.Value}, nil)
		must(err)
		same(*restored.Key.KID, *key.KID)
		signs(client, key, azkeys.SignatureAlgorithmES256)
	})
}

func deletedKeys(client *azkeys.Client) (names []string) {
	items, _ := pages(client.NewListDeletedKeyPropertiesPager(nil),
		func(page azkeys.ListDeletedKeyPropertiesResponse) []*azkeys.DeletedKeyProperties { return page.Value })
	for _, item := range items {
		names = append(names, item.KID.Name())
	}
	return names
}

func listKeys(client *azkeys.Client) ([]*azkeys.KeyProperties, int) {
	return pages(client.NewListKeyPropertiesPager(nil),
		func(page azkeys.ListKeyPropertiesResponse) []*azkeys.KeyProperties { return page.Value })
}

func keyLists(client *azkeys.Client) {
	check("keys: 27 keys come in pages of at most 25", func() {
		var names []string
		for number := range 27 {
			names = append(names, freshKey(fmt.Sprint("list", number)))
		}
		each(names, func(name string) error { _, err := client.CreateKey(ctx, name, p256(), nil); return err })
		items, count := listKeys(client)
		that(count >= 2, "%d pages", count)
		for _, name := range names {
			has := func(item *azkeys.KeyProperties) bool { return string(*item.KID) == vault+"/keys/"+name }
			that(slices.ContainsFunc(items, has), "%s is not in the list", name)
		}
		_, err := json.Marshal(items)
		must(err)
	})
}

func purgeKeys(client *azkeys.Client) {
	var left []string
	items, _ := listKeys(client)
	for _, item := range items {
		if slices.Contains(madeKeys, item.KID.Name()) {
			left = append(left, item.KID.Name())
		}
	}
	each(left, func(name string) error { return removeKey(client, name) })
	for _, name := range deletedKeys(client) {
		that(!slices.Contains(madeKeys, name), "%s is left", name)
	}
}
