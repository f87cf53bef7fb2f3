package main

// Secrets with azsecrets: set, read, versions, changed, deleted, recovered, purged, listed.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

var madeSecrets []string

func freshSecret(what string) string {
	name := named(what)
	madeSecrets = append(madeSecrets, name)
	return name
}

func value(client *azsecrets.Client, name, version string) string {
	got, err := client.GetSecret(ctx, name, version, nil)
	must(err)
	return *got.Value
}

func set(client *azsecrets.Client, name, value string) azsecrets.SetSecretResponse {
	made, err := client.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: &value}, nil)
	must(err)
	return made
}

func removeSecret(client *azsecrets.Client, name string) error {
	if _, err := client.DeleteSecret(ctx, name, nil); err != nil {
		return err
	}
	eventually(func() error { _, err := client.GetDeletedSecret(ctx, name, nil); return err })
	_, err := client.PurgeDeletedSecret(ctx, name, nil)
	return err
}

func secrets() {
	client, err := azsecrets.NewClient(vault, static(token), &azsecrets.ClientOptions{
		ClientOptions:                        options(),
		DisableChallengeResourceVerification: verificationOff(),
	})
	must(err)
	check("secrets: an unknown secret: 404 SecretNotFound", func() {
		_, err := client.GetSecret(ctx, named("none"), "", nil)
		refused(err, 404, "SecretNotFound")
	})
	values(client)
	secretLife(client)
	secretLists(client)
	check("secrets: what was made is purged", func() { purgeSecrets(client) })
}

func values(client *azsecrets.Client) {
	name := freshSecret("secret")
	var first azsecrets.SetSecretResponse
	check("secrets: set and get", func() {
		var err error
		first, err = client.SetSecret(ctx, name, azsecrets.SetSecretParameters{
			Value: to("grüße, 世界\n"), ContentType: to("text/plain"), Tags: map[string]*string{"team": to("blue")},
		}, nil)
		must(err)
		that(strings.HasPrefix(string(*first.ID), vault+"/secrets/"+name+"/"), "%s", *first.ID)
		got, err := client.GetSecret(ctx, name, "", nil)
		must(err)
		same(*got.Value, "grüße, 世界\n")
		same(*got.ContentType, "text/plain")
		same(*got.Tags["team"], "blue")
	})
	check("secrets: a second value is a new version; the first stays", func() {
		second := set(client, name, "two")
		that(*second.ID != *first.ID, "the same version")
		same(value(client, name, ""), "two")
		same(value(client, name, first.ID.Version()), "grüße, 世界\n")
		versions, _ := pages(client.NewListSecretPropertiesVersionsPager(name, nil),
			func(page azsecrets.ListSecretPropertiesVersionsResponse) []*azsecrets.SecretProperties {
				return page.Value
			})
		same(len(versions), 2)
	})
	update := func(asked azsecrets.UpdateSecretPropertiesParameters) {
		_, err := client.UpdateSecretProperties(ctx, name, "", asked, nil)
		must(err)
	}
	check("secrets: attributes change, the value does not", func() {
		expires := time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
		update(azsecrets.UpdateSecretPropertiesParameters{
			ContentType:      to("x/y"),
			SecretAttributes: &azsecrets.SecretAttributes{Expires: &expires},
			Tags:             map[string]*string{"b": to("2")},
		})
		got, err := client.GetSecret(ctx, name, "", nil)
		must(err)
		same(*got.Value, "two")
		same(*got.ContentType, "x/y")
		same(*got.Tags["b"], "2")
		that(got.Attributes.Expires.Equal(expires), "expires %v", got.Attributes.Expires)
	})
	check("secrets: a disabled secret is not read: 403", func() {
		update(azsecrets.UpdateSecretPropertiesParameters{SecretAttributes: &azsecrets.SecretAttributes{Enabled: to(false)}})
		_, err := client.GetSecret(ctx, name, "", nil)
		refused(err, 403, "Forbidden")
		update(azsecrets.UpdateSecretPropertiesParameters{SecretAttributes: &azsecrets.SecretAttributes{Enabled: to(true)}})
		same(value(client, name, ""), "two")
	})
	check("secrets: 25,000 characters", func() {
		long := strings.Repeat("0123456789", 2500)
		set(client, freshSecret("long"), long)
		same(value(client, named("long"), ""), long)
	})
}

func secretLife(client *azsecrets.Client) {
	name := freshSecret("life")
	var saved azsecrets.BackupSecretResponse
	check("secrets: delete; the name is taken and the value is gone", func() {
		var err error
		set(client, name, "kept")
		saved, err = client.BackupSecret(ctx, name, nil)
		must(err)
		deleted, err := client.DeleteSecret(ctx, name, nil)
		must(err)
		same(*deleted.RecoveryID, vault+"/deletedsecrets/"+name)
		eventually(func() error { _, err := client.GetDeletedSecret(ctx, name, nil); return err })
		_, err = client.GetSecret(ctx, name, "", nil)
		refused(err, 404, "SecretNotFound")
		_, err = client.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: to("other")}, nil)
		refused(err, 409, "Conflict")
		that(slices.Contains(deletedSecrets(client), name), "not in the list of deleted secrets")
	})
	check("secrets: recover; the value is back", func() {
		_, err := client.RecoverDeletedSecret(ctx, name, nil)
		must(err)
		eventually(func() error { _, err := client.GetSecret(ctx, name, "", nil); return err })
		same(value(client, name, ""), "kept")
	})
	check("secrets: purge; restore from the backup", func() {
		must(removeSecret(client, name))
		_, err := client.GetDeletedSecret(ctx, name, nil)
		refused(err, 404, "")
		_, err = client.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: saved.Value}, nil)
		must(err)
		same(value(client, name, ""), "kept")
	})
}

func deletedSecrets(client *azsecrets.Client) (names []string) {
	items, _ := pages(client.NewListDeletedSecretPropertiesPager(nil),
		func(page azsecrets.ListDeletedSecretPropertiesResponse) []*azsecrets.DeletedSecretProperties {
			return page.Value
		})
	for _, item := range items {
		names = append(names, item.ID.Name())
	}
	return names
}

func listSecrets(client *azsecrets.Client) ([]*azsecrets.SecretProperties, int) {
	return pages(client.NewListSecretPropertiesPager(nil),
		func(page azsecrets.ListSecretPropertiesResponse) []*azsecrets.SecretProperties { return page.Value })
}

func secretLists(client *azsecrets.Client) {
	check("secrets: 27 secrets come in pages of at most 25", func() {
		var names []string
		for number := range 27 {
			names = append(names, freshSecret(fmt.Sprint("list", number)))
		}
		each(names, func(name string) error {
			_, err := client.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: &name}, nil)
			return err
		})
		items, count := listSecrets(client)
		that(count >= 2, "%d pages", count)
		for _, name := range names {
			has := func(item *azsecrets.SecretProperties) bool { return string(*item.ID) == vault+"/secrets/"+name }
			that(slices.ContainsFunc(items, has), "%s is not in the list", name)
		}
	})
}

func purgeSecrets(client *azsecrets.Client) {
	var left []string
	items, _ := listSecrets(client)
	for _, item := range items {
		if slices.Contains(madeSecrets, item.ID.Name()) {
			left = append(left, item.ID.Name())
		}
	}
	each(left, func(name string) error { return removeSecret(client, name) })
	for _, name := range deletedSecrets(client) {
		that(!slices.Contains(madeSecrets, name), "%s is left", name)
	}
}
