import com.google.gson.JsonObject;
import com.microsoft.azure.sdk.iot.device.ClientOptions;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.IotHubMessageResult;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.ModuleClient;
import com.microsoft.azure.sdk.iot.device.exceptions.IotHubClientException;
import com.microsoft.azure.sdk.iot.device.transport.NoRetry;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.device.twin.TwinCollection;
import com.microsoft.azure.sdk.iot.service.auth.AuthenticationType;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodRequestOptions;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.Module;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.Certificate;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Devices and modules, through `iot-device-client`, over each transport that is there. */
final class Devices {
    private static final List<IotHubClientProtocol> TRANSPORTS =
        List.of(IotHubClientProtocol.MQTT, IotHubClientProtocol.MQTT_WS, IotHubClientProtocol.HTTPS);
    private static final String HOST = Conformance.environment("IOTHUB_HOSTNAME");

    static void run() {
        for (IotHubClientProtocol transport : TRANSPORTS) {
            Conformance.test("telemetry arrives with its properties: " + transport, () -> telemetry(transport));
            Conformance.test("a message to the device is completed: " + transport, () -> toDevice(transport));
            Conformance.test("a certificate lets its device in, and no other: " + transport, () -> certificate(transport));
            Conformance.test("a wrong key is refused: " + transport, () -> wrongKey(transport));
        }
        Conformance.test("a batch arrives in its order: HTTPS", Devices::batch);
        Conformance.test("a message is abandoned, comes again and is rejected: HTTPS", Devices::abandoned);
        for (IotHubClientProtocol transport : TRANSPORTS.subList(0, 2)) {
            Conformance.test("twin and methods work over one connection: " + transport, () -> twinAndMethods(transport));
            Conformance.test("a module has a twin of its own: " + transport, () -> module(transport));
        }
    }

    private static ClientOptions options(SSLContext context) {
        return ClientOptions.builder().sslContext(context).receiveInterval(100).build();
    }

    private static DeviceClient open(String id, String key, IotHubClientProtocol transport) throws Exception {
        String text = "HostName=" + HOST + ";DeviceId=" + id + ";SharedAccessKey=" + key;
        return opened(new DeviceClient(text, transport, options(context(null))));
    }

    private static DeviceClient opened(DeviceClient client) throws Exception {
        client.setRetryPolicy(new NoRetry());
        client.open(false);
        return client;
    }

    private static String register(String id) throws Exception {
        return BackEnd.REGISTRY.addDevice(new Device(id)).getPrimaryKey();
    }

    private static JsonObject only(String id) throws Exception {
        List<com.google.gson.JsonElement> sent = Conformance.telemetry(id);
        Conformance.equal(1, sent.size());
        return sent.get(0).getAsJsonObject();
    }

    private static void telemetry(IotHubClientProtocol transport) throws Exception {
        String id = Conformance.unique("telemetry");
        DeviceClient client = open(id, register(id), transport);
        Message message = new Message("{\"temperature\":21.5}");
        message.setMessageId("m-1");
        message.setContentType("application/json");
        message.setContentEncoding("utf-8");
        message.setProperty("alarm", "yes");
        client.sendEvent(message);
        client.close();
        JsonObject sent = only(id);
        Conformance.equal("{\"temperature\":21.5}", sent.get("body").toString());
        Conformance.equal("{\"alarm\":\"yes\"}", sent.get("properties").toString());
        JsonObject system = sent.getAsJsonObject("systemProperties");
        Conformance.equal(id, system.get("iothub-connection-device-id").getAsString());
        Conformance.isTrue(system.toString().contains("\"m-1\""), "the message id is lost: " + system);
        BackEnd.REGISTRY.removeDevice(id);
    }

    private static void batch() throws Exception {
        String id = Conformance.unique("batch");
        DeviceClient client = open(id, register(id), IotHubClientProtocol.HTTPS);
        client.sendEvents(List.of(new Message("one"), new Message("two"), new Message("three")));
        client.close();
        List<String> bodies = Conformance.telemetry(id).stream()
            .map(row -> new String(Base64.getDecoder().decode(row.getAsJsonObject().get("body").getAsString()), StandardCharsets.UTF_8))
            .toList();
        Conformance.equal(List.of("one", "two", "three"), bodies);
        BackEnd.REGISTRY.removeDevice(id);
    }

    private static void toDevice(IotHubClientProtocol transport) throws Exception {
        String id = Conformance.unique("to-device");
        String key = register(id);
        Conformance.twinhub("device", "send", id, "--to-device", "--body", "on", "--property", "color=red");
        Conformance.equal(1L, BackEnd.REGISTRY.getDevice(id).getCloudToDeviceMessageCount());
        String text = "HostName=" + HOST + ";DeviceId=" + id + ";SharedAccessKey=" + key;
        DeviceClient client = new DeviceClient(text, transport, options(context(null)));
        BlockingQueue<Message> inbox = new LinkedBlockingQueue<>();
        client.setMessageCallback((message, context) -> {
            inbox.add(message);
            return IotHubMessageResult.COMPLETE;
        }, null);
        opened(client);
        Message message = inbox.poll(Conformance.PATIENCE.toSeconds(), TimeUnit.SECONDS);
        Conformance.isTrue(message != null, "nothing came");
        Conformance.equal("on", new String(message.getBytes(), StandardCharsets.UTF_8));
        Conformance.equal("red", message.getProperty("color"));
        Conformance.eventually(
            "what was completed is still there", () -> BackEnd.REGISTRY.getDevice(id).getCloudToDeviceMessageCount() == 0);
        client.close();
        BackEnd.REGISTRY.removeDevice(id);
    }

    private static void abandoned() throws Exception {
        String id = Conformance.unique("abandoned");
        String key = register(id);
        Conformance.twinhub("device", "send", id, "--to-device", "--body", "on");
        String text = "HostName=" + HOST + ";DeviceId=" + id + ";SharedAccessKey=" + key;
        DeviceClient client = new DeviceClient(text, IotHubClientProtocol.HTTPS, options(context(null)));
        BlockingQueue<Message> inbox = new LinkedBlockingQueue<>();
        client.setMessageCallback((message, context) -> {
            inbox.add(message);
            return inbox.size() < 3 ? IotHubMessageResult.ABANDON : IotHubMessageResult.REJECT;
        }, null);
        opened(client);
        Conformance.eventually("it is still there", () -> BackEnd.REGISTRY.getDevice(id).getCloudToDeviceMessageCount() == 0);
        Conformance.equal(3, inbox.size());
        client.close();
        BackEnd.REGISTRY.removeDevice(id);
    }

    private static void twinAndMethods(IotHubClientProtocol transport) throws Exception {
        String id = Conformance.unique("twin");
        DeviceClient client = open(id, register(id), transport);
        BlockingQueue<com.microsoft.azure.sdk.iot.device.twin.Twin> changes = new LinkedBlockingQueue<>();
        client.subscribeToDesiredProperties((twin, context) -> changes.add(twin), null);
        client.subscribeToMethods(
            (name, payload, context) -> new DirectMethodResponse(201, Map.of("was", payload.getPayloadAsJsonElement())), null);
        Conformance.equal(Integer.valueOf(1), client.getTwin().getDesiredProperties().getVersion());

        TwinCollection reported = new TwinCollection();
        reported.put("firmware", "java-1");
        Conformance.equal(2, client.updateReportedProperties(reported).getVersion());
        Conformance.equal("java-1", BackEnd.TWINS.get(id).getReportedProperties().get("firmware"));
        Twin patch = new Twin(id);
        patch.getDesiredProperties().put("target", 21);
        BackEnd.TWINS.patch(patch);
        com.microsoft.azure.sdk.iot.device.twin.Twin change = changes.poll(Conformance.PATIENCE.toSeconds(), TimeUnit.SECONDS);
        Conformance.equal(21.0, ((Number) change.getDesiredProperties().get("target")).doubleValue());

        DirectMethodRequestOptions call = DirectMethodRequestOptions.builder()
            .payload(Map.of("in", "3")).methodConnectTimeoutSeconds(10).methodResponseTimeoutSeconds(20).build();
        com.microsoft.azure.sdk.iot.service.methods.DirectMethodResponse answer = BackEnd.METHODS.invoke(id, "reboot", call);
        Conformance.equal(Integer.valueOf(201), answer.getStatus());
        Conformance.equal("{\"was\":{\"in\":\"3\"}}", answer.getPayloadAsJsonString());
        client.close();
        BackEnd.REGISTRY.removeDevice(id);
    }

    private static void module(IotHubClientProtocol transport) throws Exception {
        String id = Conformance.unique("module");
        register(id);
        String key = BackEnd.REGISTRY.addModule(new Module(id, "mod1")).getPrimaryKey();
        Twin patch = new Twin(id, "mod1");
        patch.getDesiredProperties().put("fps", 30);
        BackEnd.TWINS.patch(patch);
        String text = "HostName=" + HOST + ";DeviceId=" + id + ";ModuleId=mod1;SharedAccessKey=" + key;
        ModuleClient client = new ModuleClient(text, transport, options(context(null)));
        client.open(false);
        client.subscribeToDesiredProperties((twin, context) -> { }, null);
        Conformance.equal(30.0, ((Number) client.getTwin().getDesiredProperties().get("fps")).doubleValue());
        client.sendEvent(new Message("from the module"));
        client.close();
        Conformance.equal("mod1", only(id).get("moduleId").getAsString());
        BackEnd.REGISTRY.removeDevice(id);
    }

    private static void wrongKey(IotHubClientProtocol transport) throws Exception {
        String id = Conformance.unique("stranger");
        register(id);
        Conformance.refused(IotHubClientException.class, () -> {
            DeviceClient client = open(id, Conformance.key(), transport);
            try {
                client.sendEvent(new Message("not me"));
            } finally {
                client.close();
            }
        });
        Conformance.equal(0, Conformance.telemetry(id).size());
        BackEnd.REGISTRY.removeDevice(id);
    }

    private static void certificate(IotHubClientProtocol transport) throws Exception {
        String id = Conformance.unique("x509");
        KeyStore own = certified(id);
        String thumbprint = thumbprint(own.getCertificate("device"));
        Device device = new Device(id, AuthenticationType.SELF_SIGNED);
        device.setThumbprint(thumbprint, thumbprint);
        BackEnd.REGISTRY.addDevice(device);
        String text = "HostName=" + HOST + ";DeviceId=" + id + ";x509=true";
        DeviceClient client = opened(new DeviceClient(text, transport, options(context(own))));
        client.sendEvent(new Message("by certificate"));
        client.close();
        JsonObject system = only(id).getAsJsonObject("systemProperties");
        Conformance.isTrue(system.get("iothub-connection-auth-method").getAsString().contains("\"type\":\"x509\""), "" + system);

        KeyStore other = certified(id);
        Conformance.refused(IotHubClientException.class, () -> {
            DeviceClient stranger = opened(new DeviceClient(text, transport, options(context(other))));
            try {
                stranger.sendEvent(new Message("not me"));
            } finally {
                stranger.close();
            }
        });
        Conformance.equal(1, Conformance.telemetry(id).size());
        BackEnd.REGISTRY.removeDevice(id);
    }

    /** A certificate that signs itself, with its key, made by the JDK's own tool. */
    private static KeyStore certified(String commonName) throws Exception {
        Path folder = Files.createTempDirectory("twinhub-x509");
        Path file = folder.resolve("device.p12");
        Process made = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "keytool").toString(), "-genkeypair", "-alias", "device",
            "-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN=" + commonName, "-validity", "30",
            "-storetype", "PKCS12", "-keystore", file.toString(), "-storepass", "changeit"
        ).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        Conformance.equal(0, made.waitFor());
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream bytes = Files.newInputStream(file)) {
            store.load(bytes, "changeit".toCharArray());
        }
        Files.delete(file);
        Files.delete(folder);
        return store;
    }

    private static String thumbprint(Certificate certificate) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(certificate.getEncoded()));
    }

    /** Trust in the server, and with a store a certificate of one's own. */
    private static SSLContext context(KeyStore own) throws Exception {
        TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trusted.init(Conformance.roots());
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, own == null ? null : "changeit".toCharArray());
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trusted.getTrustManagers(), null);
        return context;
    }

    private Devices() {}
}
