import com.microsoft.azure.sdk.iot.device.ClientOptions;
import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.device.twin.Twin;
import com.microsoft.azure.sdk.iot.device.twin.TwinCollection;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * A thermostat: sends a message, follows its target, and ends when the method "stop" is called. It wants
 * IOTHUB_DEVICE_CONNECTION_STRING and TWINHUB_CA_FILE.
 */
public final class Device {
    public static void main(String[] arguments) throws Exception {
        ClientOptions options = ClientOptions.builder().sslContext(trust(System.getenv("TWINHUB_CA_FILE"))).build();
        String connection = System.getenv("IOTHUB_DEVICE_CONNECTION_STRING");
        DeviceClient client = new DeviceClient(connection, IotHubClientProtocol.MQTT, options);
        CountDownLatch stopped = new CountDownLatch(1);
        client.open(true);

        TwinCollection reported = new TwinCollection();
        client.subscribeToDesiredProperties((twin, context) -> {
            System.out.println("desired: " + twin.getDesiredProperties());
            report(client, reported, twin);
        }, null);
        client.subscribeToMethods((name, payload, context) -> {
            System.out.println("method: " + name + " " + payload.getPayloadAsJsonString());
            if (name.equals("stop")) {
                stopped.countDown();
            }
            return new DirectMethodResponse(200, Map.of("stopped", true));
        }, null);
        report(client, reported, client.getTwin());

        Message message = new Message("{\"temperature\":21.5}");
        message.setContentType("application/json");
        message.setContentEncoding("utf-8");
        client.sendEvent(message);
        System.out.println("sent");
        stopped.await();
        Thread.sleep(1000); // the answer goes out before the connection does
        client.close();
    }

    private static void report(DeviceClient client, TwinCollection reported, Twin twin) {
        Object target = twin.getDesiredProperties().get("target");
        if (target != null) {
            reported.put("target", target);
            client.updateReportedPropertiesAsync(reported, (status, response, problem, context) -> { }, null);
        }
    }

    private static SSLContext trust(String file) throws Exception {
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null);
        try (InputStream pem = Files.newInputStream(Path.of(file))) {
            roots.setCertificateEntry("twinhub", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trusted.init(roots);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trusted.getTrustManagers(), null);
        return context;
    }
}
