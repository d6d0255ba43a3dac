// A thermostat: sends a message, follows its target, answers a method.
// dotnet run, with IOTHUB_DEVICE_CONNECTION_STRING and SSL_CERT_FILE set.
using System.Text;
using Microsoft.Azure.Devices.Client;
using Microsoft.Azure.Devices.Shared;

var connection = Environment.GetEnvironmentVariable("IOTHUB_DEVICE_CONNECTION_STRING")
    ?? throw new InvalidOperationException("IOTHUB_DEVICE_CONNECTION_STRING is not set");
await using var client = DeviceClient.CreateFromConnectionString(connection, TransportType.Mqtt_Tcp_Only);
var stopped = new TaskCompletionSource();

await client.SetDesiredPropertyUpdateCallbackAsync(
    async (desired, _) =>
    {
        Console.WriteLine($"desired: {desired.ToJson()}");
        if (desired.Contains("target"))
        {
            var reported = new TwinCollection();
            reported["target"] = desired["target"];
            await client.UpdateReportedPropertiesAsync(reported);
        }
    },
    null);
await client.SetMethodHandlerAsync(
    "stop",
    (request, _) =>
    {
        Console.WriteLine($"method: {request.Name} {request.DataAsJson}");
        stopped.TrySetResult();
        return Task.FromResult(new MethodResponse(Encoding.UTF8.GetBytes("""{"stopped":true}"""), 200));
    },
    null);

using var message = new Message(Encoding.UTF8.GetBytes("""{"temperature":21.5}"""))
{
    ContentType = "application/json",
    ContentEncoding = "utf-8",
};
await client.SendEventAsync(message);
Console.WriteLine("sent");
await stopped.Task;
await Task.Delay(TimeSpan.FromSeconds(1)); // the answer goes out before the connection does
