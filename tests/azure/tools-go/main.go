// Tools written for Azure Key Vault, unmodified, on Strongroom: cosign's key store (sigstore's azurekms) and sops's.
// They know no switch for us: the vault has a name below a domain, and the token comes from IDENTITY_ENDPOINT.
package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/logging"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/sirupsen/logrus"
)

var passed, failed int

func check(what string, body func() error) {
	if err := body(); err != nil {
		failed++
		fmt.Printf("FAIL  %s: %.400s\n", what, strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	passed++
	fmt.Println("ok   ", what)
}

func to[T any](value T) *T { return &value }

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	logging.SetLevel(logrus.ErrorLevel)
	vault, err := url.Parse(strings.TrimSuffix(os.Getenv("AKV_URL"), "/"))
	if err != nil || vault.Host == "" {
		fmt.Fprintln(os.Stderr, "AKV_URL is not set: the vault's address, by a name below a domain.")
		os.Exit(2)
	}
	run := make([]byte, 4)
	rand.Read(run)
	names := map[string]string{"cosign": "cosign-" + hex.EncodeToString(run), "sops": "sops-" + hex.EncodeToString(run)}
	var client *azkeys.Client
	check("the official SDK finds its token by itself, and the vault its own", func() error {
		credential, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return err
		}
		client, err = azkeys.NewClient(vault.String(), credential, nil)
		if err != nil {
			return err
		}
		_, err = client.CreateKey(ctx, names["sops"], azkeys.CreateKeyParameters{Kty: to(azkeys.KeyTypeRSA), KeySize: to(int32(2048))}, nil)
		return err
	})
	cosign(ctx, "azurekms://"+vault.Host+"/"+names["cosign"])
	sops(ctx, client, vault.String(), names["sops"])
	check("what was made is purged", func() error { return purge(ctx, client, names) })
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// cosign does what `cosign generate-key-pair --kms`, `cosign sign-blob` and `cosign verify-blob` do.
func cosign(ctx context.Context, reference string) {
	var (
		signer    kms.SignerVerifier
		public    crypto.PublicKey
		signature []byte
		blob      = []byte("an artifact\n")
	)
	check("cosign: generate a key pair: "+azure.AlgorithmES256, func() (err error) {
		if signer, err = kms.Get(ctx, reference, crypto.SHA256); err != nil {
			return err
		}
		public, err = signer.CreateKey(ctx, azure.AlgorithmES256)
		return err
	})
	check("cosign: sign a blob; Go verifies it with the public key", func() (err error) {
		signature, err = signer.SignMessage(bytes.NewReader(blob), options.WithContext(ctx))
		if err != nil {
			return err
		}
		key, ok := public.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() {
			return fmt.Errorf("a public key of type %T", public)
		}
		digest := sha256.Sum256(blob)
		if !ecdsa.VerifyASN1(key, digest[:], signature) {
			return errors.New("a false signature")
		}
		return nil
	})
	check("cosign: verify a blob by its reference, and not another one", func() error {
		again, err := kms.Get(ctx, reference, crypto.SHA256)
		if err != nil {
			return err
		}
		verify := func(blob []byte) error {
			return again.VerifySignature(bytes.NewReader(signature), bytes.NewReader(blob), options.WithContext(ctx))
		}
		if err := verify(blob); err != nil {
			return err
		}
		if verify([]byte("another artifact\n")) == nil {
			return errors.New("believed for another blob")
		}
		return nil
	})
}

// sops does what `sops --azure-kv` does with the data key of a file.
func sops(ctx context.Context, client *azkeys.Client, vault, name string) {
	var (
		dataKey = make([]byte, 32)
		key     *azkv.MasterKey
	)
	rand.Read(dataKey)
	check("sops: encrypt a file's data key, by the key's address without a version", func() (err error) {
		if key, err = azkv.NewMasterKeyFromURL(vault + "/keys/" + name); err != nil {
			return err
		}
		if err = key.EncryptContext(ctx, dataKey); err == nil && key.Version == "" {
			err = errors.New("the version is not kept in the file")
		}
		return err
	})
	check("sops: decrypt it, also after the key is rotated", func() error {
		for range 2 {
			opened, err := key.DecryptContext(ctx)
			if err != nil || !bytes.Equal(opened, dataKey) {
				return errors.Join(err, fmt.Errorf("%d bytes", len(opened)))
			}
			if _, err := client.RotateKey(ctx, name, nil); err != nil {
				return err
			}
		}
		return nil
	})
	check("sops: decrypt what was encrypted here, with the public key", func() error {
		got, err := client.GetKey(ctx, name, key.Version, nil)
		if err != nil {
			return err
		}
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(got.Key.N), E: int(new(big.Int).SetBytes(got.Key.E).Int64())}
		sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, dataKey, nil)
		if err != nil {
			return err
		}
		key.SetEncryptedDataKey([]byte(base64.RawURLEncoding.EncodeToString(sealed)))
		opened, err := key.DecryptContext(ctx)
		if err != nil || !bytes.Equal(opened, dataKey) {
			return errors.Join(err, fmt.Errorf("%d bytes", len(opened)))
		}
		return nil
	})
}

func purge(ctx context.Context, client *azkeys.Client, names map[string]string) (err error) {
	for _, name := range names {
		_, deleted := client.DeleteKey(ctx, name, nil)
		_, purged := client.PurgeDeletedKey(ctx, name, nil)
		err = errors.Join(err, deleted, purged)
	}
	return err
}
