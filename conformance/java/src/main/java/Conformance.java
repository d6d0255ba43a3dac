import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.SecureRandom;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.Callable;

/**
 * Official clients of Java, unmodified, against twinhub. `cargo xtask conform java` starts the server and gives us everything that
 * `twinhub env` prints. A plain program: it runs every case, says which failed and why, and ends with 1 if one did.
 */
public final class Conformance {
    static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final List<String> FAILED = new ArrayList<>();
    private static int passed;

    @FunctionalInterface
    interface Case {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        trust();
        BackEnd.run();
        Devices.run();
        System.out.println(passed + " passed, " + FAILED.size() + " failed");
        System.exit(FAILED.isEmpty() ? 0 : 1); // threads of the clients would go on
    }

    static void test(String name, Case body) {
        try {
            body.run();
            passed++;
            System.out.println("ok - " + name);
        } catch (Exception | AssertionError failure) {
            FAILED.add(name);
            System.out.println("FAILED - " + name);
            failure.printStackTrace(System.out);
        }
    }

    static void equal(Object expected, Object found) {
        if (!Objects.equals(expected, found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }

    static void isTrue(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static <E extends Exception> E refused(Class<E> kind, Case body) throws Exception {
        try {
            body.run();
        } catch (Exception refusal) {
            if (kind.isInstance(refusal)) {
                return kind.cast(refusal);
            }
            throw refusal;
        }
        throw new AssertionError("it was not refused");
    }

    /** Waits for what is said to come. */
    static void eventually(String what, Callable<Boolean> holds) throws Exception {
        Instant end = Instant.now().plus(PATIENCE);
        while (!holds.call()) {
            isTrue(Instant.now().isBefore(end), what);
            Thread.sleep(100);
        }
    }

    static String environment(String name) {
        return Objects.requireNonNull(System.getenv(name), name + " is not set: run this through `cargo xtask conform`");
    }

    static String unique(String name) {
        return "java-" + name + "-" + UUID.randomUUID();
    }

    static String key() {
        byte[] key = new byte[32];
        new SecureRandom().nextBytes(key);
        return Base64.getEncoder().encodeToString(key);
    }

    /** A command that a user would run. */
    static String twinhub(String... command) throws IOException, InterruptedException {
        List<String> all = new ArrayList<>(List.of(environment("CONFORM_BINARY")));
        all.addAll(List.of(command));
        all.addAll(List.of("--data-dir", environment("TWINHUB_DATA_DIR")));
        Process process = new ProcessBuilder(all).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        equal(0, process.waitFor());
        return said;
    }

    /** What a device or module sent, from the hub's event stream. */
    static List<JsonElement> telemetry(String deviceId) throws Exception {
        List<JsonElement> found = new ArrayList<>();
        for (String line : twinhub("events", "--from", "earliest", "--json").split("\n")) {
            if (line.contains(deviceId) && line.contains("\"Telemetry\"")) {
                found.add(JsonParser.parseString(line));
            }
        }
        return found;
    }

    static KeyStore roots() throws Exception {
        KeyStore roots = KeyStore.getInstance("PKCS12");
        roots.load(null);
        try (InputStream pem = Files.newInputStream(Path.of(environment("TWINHUB_CA_FILE")))) {
            roots.setCertificateEntry("twinhub", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        return roots;
    }

    /** For the whole program, since service clients take no context of their own. */
    private static void trust() throws Exception {
        Path store = Files.createTempFile("twinhub", ".p12");
        try (OutputStream file = Files.newOutputStream(store)) {
            roots().store(file, "changeit".toCharArray());
        }
        store.toFile().deleteOnExit();
        System.setProperty("javax.net.ssl.trustStore", store.toString());
        System.setProperty("javax.net.ssl.trustStorePassword", "changeit");
    }

    private Conformance() {}
}
