package main

// Where the vault is, how to talk to it, and how checks are counted and printed.

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

var (
	vault = strings.TrimSuffix(wanted("AKV_URL"), "/")
	token = wanted("AKV_TOKEN")
	run   = hex.EncodeToString(random(4))
	// The whole program ends after four minutes.
	ctx, cancel = context.WithTimeout(context.Background(), 4*time.Minute)
)

func wanted(variable string) string {
	value := os.Getenv(variable)
	if value == "" {
		fmt.Fprintf(os.Stderr, "%s is not set: source the env file of `strongroom dev`.\n", variable)
		os.Exit(2)
	}
	return value
}

func skipped(group string) bool {
	for _, name := range strings.Split(os.Getenv("AKV_SKIP"), ",") {
		if name == group {
			return true
		}
	}
	return false
}

// static is the smallest credential: always the same token.
type static string

func (token static) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(token), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// options are what every client is made with: our CA, and few and short repetitions.
func options() azcore.ClientOptions {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if file := os.Getenv("AKV_CA"); file != "" {
		pem, err := os.ReadFile(file)
		must(err)
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			must(errors.New("no certificate in " + file))
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return azcore.ClientOptions{
		Retry:     policy.RetryOptions{MaxRetries: 2, RetryDelay: 200 * time.Millisecond, TryTimeout: 30 * time.Second},
		Transport: &http.Client{Transport: transport},
	}
}

// verification says whether the SDK has to be told not to compare the challenge's resource with the host:
// only a host without a parent domain needs it.
func verificationOff() bool {
	parsed, err := url.Parse(vault)
	must(err)
	host := parsed.Hostname()
	return host == "localhost" || net.ParseIP(host) != nil
}

// named is a name that no other run has.
func named(what string) string { return "go-" + run + "-" + what }

func random(count int) []byte {
	data := make([]byte, count)
	_, err := rand.Read(data)
	must(err)
	return data
}

func to[T any](value T) *T { return &value }

var passed, failed int

type failure struct{ error }

// must ends the check that runs.
func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// that ends the check that runs unless it holds.
func that(holds bool, format string, words ...any) {
	if !holds {
		panic(failure{fmt.Errorf(format, words...)})
	}
}

func same[T comparable](found, expected T) {
	that(found == expected, "expected %v, got %v", expected, found)
}

// check is one line, and a count. The checks after it run whatever comes of it.
func check(what string, body func()) {
	defer func() {
		switch why := recover().(type) {
		case nil:
			passed++
			fmt.Println("ok   ", what)
		default:
			failed++
			said := strings.Join(strings.Fields(fmt.Sprint(why)), " ")
			fmt.Printf("FAIL  %s: %.400s\n", what, said)
		}
	}()
	body()
}

// refused wants an error with this status, and with this code unless it is empty.
func refused(err error, status int, code string) {
	var answer *azcore.ResponseError
	that(errors.As(err, &answer), "wanted %d %s, got %v", status, code, err)
	that(answer.StatusCode == status && (code == "" || answer.ErrorCode == code), "wanted %d %s, got %v", status, code, err)
}

// each runs body for every item, four at a time, and ends the check with the first failure.
func each[T any](items []T, body func(T) error) {
	var (
		group  sync.WaitGroup
		errs   = make([]error, len(items))
		places = make(chan struct{}, 4)
	)
	for at, item := range items {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			errs[at] = body(item)
		})
	}
	group.Wait()
	must(errors.Join(errs...))
}

// eventually asks until there is no error: what is deleted or recovered may take a moment to be seen.
func eventually(ask func() error) {
	var err error
	for range 50 {
		if err = ask(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	must(err)
}

// pages gives every item of a list, and how many pages it came in. No page may hold more than 25.
func pages[Page, Item any](pager *runtime.Pager[Page], of func(Page) []Item) (items []Item, count int) {
	for pager.More() {
		page, err := pager.NextPage(ctx)
		must(err)
		that(len(of(page)) <= 25, "a page of %d", len(of(page)))
		items = append(items, of(page)...)
		count++
	}
	return items, count
}

// finish prints the last line.
func finish() {
	cancel()
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
