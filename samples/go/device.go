// A thermostat: sends a message, follows its target, and ends when the method `stop` is called. There is no SDK of Azure's for devices in
// Go; this is Eclipse Paho with the topics of IoT Hub.
//
//	IOTHUB_DEVICE_CONNECTION_STRING=… TWINHUB_CA_FILE=… go run .
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const patience = 15 * time.Second

// parts of HostName=…;DeviceId=…;SharedAccessKey=…
func parts(connection string) map[string]string {
	found := map[string]string{}
	for _, part := range strings.Split(connection, ";") {
		if name, value, ok := strings.Cut(part, "="); ok {
			found[name] = value
		}
	}
	return found
}

func password(resource, key string) string {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		log.Fatal("SharedAccessKey: ", err)
	}
	resource = url.QueryEscape(resource)
	expiry := time.Now().Add(time.Hour).Unix()
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s\n%d", resource, expiry)
	signature := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%d", resource, signature, expiry)
}

// trust is the server's root, or without TWINHUB_CA_FILE those of the system.
func trust() *tls.Config {
	file := os.Getenv("TWINHUB_CA_FILE")
	if file == "" {
		return &tls.Config{}
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots}
}

func done(token mqtt.Token) {
	if !token.WaitTimeout(patience) {
		log.Fatal("no answer within ", patience)
	}
	if token.Error() != nil {
		log.Fatal(token.Error())
	}
}

func main() {
	hub := parts(os.Getenv("IOTHUB_DEVICE_CONNECTION_STRING"))
	host, device := hub["HostName"], hub["DeviceId"]
	options := mqtt.NewClientOptions().
		AddBroker("ssl://" + host + ":8883").
		SetProtocolVersion(4).
		SetClientID(device).
		SetUsername(host + "/" + device + "/?api-version=2021-04-12").
		SetPassword(password(host+"/devices/"+device, hub["SharedAccessKey"])).
		SetTLSConfig(trust())
	client := mqtt.NewClient(options)
	done(client.Connect())
	stopped := make(chan struct{})

	follow := func(desired map[string]any) {
		fmt.Println("desired:", desired)
		if target, ok := desired["target"]; ok {
			reported, _ := json.Marshal(map[string]any{"target": target})
			client.Publish("$iothub/twin/PATCH/properties/reported/?$rid=2", 0, false, reported)
		}
	}
	done(client.Subscribe("$iothub/twin/PATCH/properties/desired/#", 0, func(_ mqtt.Client, message mqtt.Message) {
		var desired map[string]any
		if json.Unmarshal(message.Payload(), &desired) == nil {
			follow(desired)
		}
	}))
	done(client.Subscribe("$iothub/twin/res/#", 0, func(_ mqtt.Client, message mqtt.Message) {
		var twin struct{ Desired map[string]any }
		if strings.Contains(message.Topic(), "?$rid=1") && json.Unmarshal(message.Payload(), &twin) == nil {
			follow(twin.Desired)
		}
	}))
	done(client.Subscribe("$iothub/methods/POST/#", 0, func(_ mqtt.Client, message mqtt.Message) {
		fmt.Println("method:", message.Topic(), string(message.Payload()))
		_, request, _ := strings.Cut(message.Topic(), "?$rid=")
		client.Publish("$iothub/methods/res/200/?$rid="+request, 0, false, `{"stopped":true}`)
		if strings.HasPrefix(message.Topic(), "$iothub/methods/POST/stop/") {
			close(stopped)
		}
	}))
	client.Publish("$iothub/twin/GET/?$rid=1", 0, false, "")
	topic := "devices/" + device + "/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8"
	done(client.Publish(topic, 1, false, `{"temperature":21.5}`))
	fmt.Println("sent")
	<-stopped
	client.Disconnect(1000)
}
