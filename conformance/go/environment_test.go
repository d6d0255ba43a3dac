// Official clients of Go, unmodified, against twinhub. `cargo xtask conform go` starts the server and gives us everything that
// `twinhub env` prints.
package conformance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

const patience = 2 * time.Minute

func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run this through `cargo xtask conform`", name)
	}
	return value
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func unique(name string) string {
	bytes := make([]byte, 4)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return "go-" + name + "-" + hex.EncodeToString(bytes)
}

// credential is found by the environment alone.
func credential(t *testing.T) azcore.TokenCredential {
	t.Helper()
	found, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// management points a client of Resource Manager at this server.
func management(t *testing.T) *arm.ClientOptions {
	options := &arm.ClientOptions{}
	options.Cloud = cloud.Configuration{
		ActiveDirectoryAuthorityHost: env(t, "AZURE_AUTHORITY_HOST"),
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {
				Endpoint: strings.TrimSuffix(env(t, "AZURE_RESOURCE_MANAGER_ENDPOINT"), "/"),
				Audience: strings.TrimSuffix(env(t, "AZURE_RESOURCE_MANAGER_AUDIENCE"), "/"),
			},
		},
	}
	return options
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused says with which status, and where a code is given with which one.
func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		t.Fatalf("it was not refused: %v", err)
	}
	if response.StatusCode != status || (code != "" && response.ErrorCode != code) {
		t.Fatalf("refused with %d %s, not %d %s", response.StatusCode, response.ErrorCode, status, code)
	}
}

func equal[T comparable](t *testing.T, wanted, found T) {
	t.Helper()
	if wanted != found {
		t.Fatalf("wanted %v, found %v", wanted, found)
	}
}
