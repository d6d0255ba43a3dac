import com.google.gson.JsonParser;
import com.microsoft.azure.sdk.iot.service.configurations.Configuration;
import com.microsoft.azure.sdk.iot.service.configurations.ConfigurationContent;
import com.microsoft.azure.sdk.iot.service.configurations.ConfigurationMetrics;
import com.microsoft.azure.sdk.iot.service.configurations.ConfigurationsClient;
import com.microsoft.azure.sdk.iot.service.exceptions.ErrorCodeDescription;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubConflictException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubNotFoundException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubPreconditionFailedException;
import com.microsoft.azure.sdk.iot.service.exceptions.IotHubUnauthorizedException;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJob;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJobStatus;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJobType;
import com.microsoft.azure.sdk.iot.service.jobs.ScheduledJobsClient;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodRequestOptions;
import com.microsoft.azure.sdk.iot.service.methods.DirectMethodsClient;
import com.microsoft.azure.sdk.iot.service.query.JobQueryResponse;
import com.microsoft.azure.sdk.iot.service.query.QueryClient;
import com.microsoft.azure.sdk.iot.service.query.QueryPageOptions;
import com.microsoft.azure.sdk.iot.service.query.RawQueryResponse;
import com.microsoft.azure.sdk.iot.service.query.TwinQueryResponse;
import com.microsoft.azure.sdk.iot.service.registry.Device;
import com.microsoft.azure.sdk.iot.service.registry.DeviceStatus;
import com.microsoft.azure.sdk.iot.service.registry.Module;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;
import com.microsoft.azure.sdk.iot.service.twin.Twin;
import com.microsoft.azure.sdk.iot.service.twin.TwinClient;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Map;

/** What a back end asks of the hub over HTTPS, through `iot-service-client`. */
final class BackEnd {
    private static final String CONNECTION = Conformance.environment("IOTHUB_CONNECTION_STRING");
    static final RegistryClient REGISTRY = new RegistryClient(CONNECTION);
    static final TwinClient TWINS = new TwinClient(CONNECTION);
    static final DirectMethodsClient METHODS = new DirectMethodsClient(CONNECTION);
    private static final QueryClient QUERIES = new QueryClient(CONNECTION);
    private static final ScheduledJobsClient JOBS = new ScheduledJobsClient(CONNECTION);
    private static final ConfigurationsClient CONFIGURATIONS = new ConfigurationsClient(CONNECTION);

    static void run() {
        Conformance.test("devices and modules are made, changed and removed", BackEnd::registry);
        Conformance.test("a twin is patched, replaced, and held against its etag", BackEnd::twins);
        Conformance.test("a method to a device that is away fails as such", BackEnd::methodToNobody);
        Conformance.test("queries come page by page", BackEnd::queries);
        Conformance.test("jobs patch twins, are found and are cancelled", BackEnd::jobs);
        Conformance.test("configurations are made, applied, counted, replaced and removed", BackEnd::configurations);
        Conformance.test("a wrong key is refused", BackEnd::wrongKey);
    }

    private static void registry() throws Exception {
        String id = Conformance.unique("registry");
        Device device = new Device(id);
        String key = device.getPrimaryKey(); // made by the SDK
        Device made = REGISTRY.addDevice(device);
        Conformance.equal(key, made.getPrimaryKey());
        Conformance.equal(DeviceStatus.Enabled, made.getStatus());
        Conformance.refused(IotHubConflictException.class, () -> REGISTRY.addDevice(new Device(id)));

        REGISTRY.addModule(new Module(id, "mod1"));
        Conformance.equal("mod1", REGISTRY.getModule(id, "mod1").getId());
        Conformance.equal(1, REGISTRY.getModulesOnDevice(id).size());
        REGISTRY.removeModule(id, "mod1");
        Conformance.refused(IotHubNotFoundException.class, () -> REGISTRY.getModule(id, "mod1"));

        made.setStatus(DeviceStatus.Disabled);
        Device changed = REGISTRY.updateDevice(made);
        Conformance.equal(DeviceStatus.Disabled, REGISTRY.getDevice(id).getStatus());
        Conformance.isTrue(!made.getETag().equals(changed.getETag()), "the etag is the old one");
        Conformance.isTrue(REGISTRY.getStatistics().getDisabledDeviceCount() >= 1, "nothing is counted");
        REGISTRY.removeDevice(id);
        Conformance.refused(IotHubNotFoundException.class, () -> REGISTRY.getDevice(id));
    }

    private static void twins() throws Exception {
        String id = Conformance.unique("twin");
        REGISTRY.addDevice(new Device(id));
        Twin patch = new Twin(id);
        patch.getTags().put("floor", 2);
        patch.getDesiredProperties().put("target", Map.of("value", 21.5));
        Twin patched = TWINS.patch(patch);
        Conformance.equal(2.0, ((Number) patched.getTags().get("floor")).doubleValue());
        Conformance.equal(Integer.valueOf(2), patched.getDesiredProperties().getVersion());

        String stale = patched.getETag();
        Twin replacement = new Twin(id);
        replacement.getTags().put("room", "hall");
        Conformance.equal("hall", TWINS.replace(replacement).getTags().get("room"));
        Twin stored = TWINS.get(id);
        Conformance.isTrue(!stored.getTags().containsKey("floor"), "what was replaced is still there");
        Twin late = new Twin(id);
        late.setETag(stale);
        late.getTags().put("lost", true);
        Conformance.refused(IotHubPreconditionFailedException.class, () -> TWINS.patch(late, stale));
        Conformance.isTrue(!TWINS.get(id).getTags().containsKey("lost"), "a stale patch came through");
        REGISTRY.removeDevice(id);
        Conformance.refused(IotHubNotFoundException.class, () -> TWINS.get(id));
    }

    private static void methodToNobody() throws Exception {
        String id = Conformance.unique("away");
        REGISTRY.addDevice(new Device(id));
        // Its own defaults would wait longer for the device than for the answer.
        DirectMethodRequestOptions soon =
            DirectMethodRequestOptions.builder().methodConnectTimeoutSeconds(0).methodResponseTimeoutSeconds(5).build();
        IotHubException away = Conformance.refused(IotHubException.class, () -> METHODS.invoke(id, "reboot", soon));
        Conformance.equal(ErrorCodeDescription.DeviceNotOnline, away.getErrorCodeDescription());
        REGISTRY.removeDevice(id);
    }

    private static void queries() throws Exception {
        String fleet = Conformance.unique("fleet");
        List<String> ids = new ArrayList<>();
        for (int number = 0; number < 5; number++) {
            String id = fleet + "-" + number;
            ids.add(id);
            REGISTRY.addDevice(new Device(id));
            Twin tags = new Twin(id);
            tags.getTags().put("fleet", fleet);
            tags.getTags().put("floor", number % 2);
            TWINS.patch(tags);
        }
        QueryPageOptions two = QueryPageOptions.builder().pageSize(2).build();
        String mine = " FROM devices WHERE tags.fleet = '" + fleet + "'";
        List<String> seen = new ArrayList<>();
        TwinQueryResponse twins = QUERIES.queryTwins("SELECT *" + mine, two);
        while (twins.hasNext()) {
            seen.add(twins.next(two).getDeviceId());
        }
        Conformance.equal(ids, seen);

        List<String> rows = new ArrayList<>();
        RawQueryResponse raw = QUERIES.queryRaw("SELECT tags.floor AS f, COUNT() AS n" + mine + " GROUP BY tags.floor");
        while (raw.hasNext()) {
            rows.add(raw.next());
        }
        Conformance.equal(2, rows.size());
        Conformance.equal(3, JsonParser.parseString(rows.get(0)).getAsJsonObject().get("n").getAsInt());
        Conformance.refused(IotHubException.class, () -> QUERIES.queryRaw("SELECT * FROM nothing"));
        for (String id : ids) {
            REGISTRY.removeDevice(id);
        }
    }

    private static void jobs() throws Exception {
        String id = Conformance.unique("jobs");
        REGISTRY.addDevice(new Device(id));
        String jobId = Conformance.unique("job");
        String condition = "deviceId IN ['" + id + "']";
        Twin patch = new Twin();
        patch.getTags().put("byJob", jobId);
        patch.setETag("*");
        ScheduledJob made = JOBS.scheduleUpdateTwin(jobId, condition, patch, new Date(), 60);
        Conformance.equal(jobId, made.getJobId());
        Conformance.eventually("the job does not end", () -> JOBS.get(jobId).getJobStatus() == ScheduledJobStatus.completed);
        Conformance.equal(1, JOBS.get(jobId).getJobStatistics().getSucceededCount());
        Conformance.equal(jobId, TWINS.get(id).getTags().get("byJob"));

        String ahead = Conformance.unique("job");
        JOBS.scheduleDirectMethod(ahead, condition, "reboot", new Date(System.currentTimeMillis() + 3_600_000));
        List<String> scheduled = new ArrayList<>();
        JobQueryResponse jobs = JOBS.query(ScheduledJobType.scheduleDeviceMethod, ScheduledJobStatus.scheduled);
        while (jobs.hasNext()) {
            scheduled.add(jobs.next().getJobId());
        }
        Conformance.isTrue(scheduled.contains(ahead), "what is scheduled is not found");
        Conformance.equal(ScheduledJobStatus.cancelled, JOBS.cancel(ahead).getJobStatus());

        List<String> outcomes = new ArrayList<>();
        JobQueryResponse ofDevices = QUERIES.queryJobs("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '" + jobId + "'");
        while (ofDevices.hasNext()) {
            outcomes.add(ofDevices.next().getDeviceId());
        }
        Conformance.equal(List.of(id), outcomes);
        REGISTRY.removeDevice(id);
    }

    private static void configurations() throws Exception {
        String device = Conformance.unique("configured");
        REGISTRY.addDevice(new Device(device));
        String id = Conformance.unique("configuration");
        Configuration wanted = new Configuration(id);
        ConfigurationContent content = new ConfigurationContent();
        content.setDeviceContent(Map.of("properties.desired.byConfiguration", Map.of("interval", 5)));
        wanted.setContent(content);
        wanted.setTargetCondition("tags.configuration = '" + id + "'");
        wanted.setPriority(3);
        ConfigurationMetrics metrics = new ConfigurationMetrics();
        metrics.setQueries(Map.of("all", "SELECT deviceId FROM devices WHERE tags.configuration = '" + id + "'"));
        wanted.setMetrics(metrics);
        Configuration made = CONFIGURATIONS.create(wanted);
        Conformance.equal("1.0", made.getSchemaVersion());

        Twin tags = new Twin(device);
        tags.getTags().put("configuration", id);
        Twin twin = TWINS.patch(tags);
        Conformance.isTrue(TWINS.get(device).getDesiredProperties().containsKey("byConfiguration"), "it was not applied");
        Conformance.isTrue(TWINS.get(device).getConfigurations().containsKey(id), "the twin does not tell of it");
        Conformance.eventually("nothing is counted", () -> {
            Long applied = CONFIGURATIONS.get(id).getSystemMetrics().getResults().get("appliedCount");
            return applied != null && applied == 1;
        });
        made.setPriority(4);
        Conformance.equal(Integer.valueOf(4), CONFIGURATIONS.replace(made).getPriority());
        Conformance.refused(IotHubConflictException.class, () -> CONFIGURATIONS.create(made));
        Conformance.isTrue(CONFIGURATIONS.get(20).stream().anyMatch(one -> one.getId().equals(id)), "it is not listed");
        CONFIGURATIONS.delete(id);
        Conformance.refused(IotHubNotFoundException.class, () -> CONFIGURATIONS.get(id));
        ConfigurationContent once = new ConfigurationContent();
        once.setDeviceContent(Map.of("properties.desired.once", 1));
        CONFIGURATIONS.applyConfigurationContentOnDevice(device, once);
        Conformance.isTrue(TWINS.get(device).getDesiredProperties().containsKey("once"), "the content was not applied");
        Conformance.equal(device, twin.getDeviceId());
        REGISTRY.removeDevice(device);
    }

    private static void wrongKey() throws Exception {
        String wrong = CONNECTION.replaceFirst("SharedAccessKey=.*", "SharedAccessKey=" + Conformance.key());
        RegistryClient stranger = new RegistryClient(wrong);
        Conformance.refused(IotHubUnauthorizedException.class, stranger::getStatistics);
    }

    private BackEnd() {}
}
