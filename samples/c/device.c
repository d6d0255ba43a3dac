/* A device in C over libmosquitto: reads its twin, reports, sends one message and answers direct methods until one has come.
 *   cc -std=c11 -Wall -Wextra -o device device.c -lmosquitto
 *   device HOST PORT CA_FILE DEVICE USER_NAME PASSWORD
 * The values are what `twinhub device create NAME --json` prints. */
#include <mosquitto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEEP_ALIVE_SECONDS = 60, TOPIC_BYTES = 512 };

static const char TWIN[] = "$iothub/twin/res/";
static const char METHOD[] = "$iothub/methods/POST/";
static const char *const FILTERS[] = {"$iothub/twin/res/#", "$iothub/methods/POST/#"};

static const char *device;
static bool has_asked;
static int answer; /* the number of the message that answers the method */

static int publish(struct mosquitto *client, const char *topic, const char *body) {
    int number = 0;
    int failure = mosquitto_publish(client, &number, topic, (int)strlen(body), body, 1, false);
    if (failure) fprintf(stderr, "%s: %s\n", topic, mosquitto_strerror(failure));
    return number;
}

static void connected(struct mosquitto *client, void *unused, int refused) {
    (void)unused;
    if (refused) {
        fprintf(stderr, "the hub refused the connection: %s\n", mosquitto_connack_string(refused));
        exit(1);
    }
    mosquitto_subscribe_multiple(client, NULL, 2, (char *const *)FILTERS, 0, 0, NULL);
}

/* Only now: an answer that comes before its filter is granted is lost. */
static void granted(struct mosquitto *client, void *unused, int message, int count, const int *levels) {
    (void)unused, (void)message, (void)count, (void)levels;
    if (has_asked) return;
    has_asked = true;
    char topic[TOPIC_BYTES];
    publish(client, "$iothub/twin/GET/?$rid=1", "");
    publish(client, "$iothub/twin/PATCH/properties/reported/?$rid=2", "{\"firmware\":\"c-1\"}");
    snprintf(topic, sizeof topic, "devices/%s/messages/events/%%24.ct=application%%2Fjson&%%24.ce=utf-8", device);
    publish(client, topic, "{\"temperature\":21.5}");
}

static void heard(struct mosquitto *client, void *unused, const struct mosquitto_message *message) {
    (void)unused;
    const char *rid = strstr(message->topic, "$rid=");
    if (!strncmp(message->topic, TWIN, strlen(TWIN))) {
        printf("twin: %.*s %s\n", message->payloadlen, (const char *)message->payload, message->topic + strlen(TWIN));
    } else if (!strncmp(message->topic, METHOD, strlen(METHOD)) && rid) {
        char topic[TOPIC_BYTES];
        printf("method: %s\n", message->topic + strlen(METHOD));
        snprintf(topic, sizeof topic, "$iothub/methods/res/200/?%s", rid);
        answer = publish(client, topic, "{\"done\":true}");
    }
    fflush(stdout);
}

/* The hub has it. */
static void acknowledged(struct mosquitto *client, void *unused, int message) {
    (void)unused;
    if (message == answer) mosquitto_disconnect(client);
}

int main(int count, char **values) {
    if (count != 7) {
        fprintf(stderr, "device HOST PORT CA_FILE DEVICE USER_NAME PASSWORD\n");
        return 2;
    }
    device = values[4];
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(device, true, NULL);
    if (!client) return 1;
    mosquitto_username_pw_set(client, values[5], values[6]);
    int failure = mosquitto_tls_set(client, values[3], NULL, NULL, NULL, NULL);
    mosquitto_connect_callback_set(client, connected);
    mosquitto_subscribe_callback_set(client, granted);
    mosquitto_message_callback_set(client, heard);
    mosquitto_publish_callback_set(client, acknowledged);
    if (!failure) failure = mosquitto_connect(client, values[1], atoi(values[2]), KEEP_ALIVE_SECONDS);
    if (!failure) failure = mosquitto_loop_forever(client, -1, 1);
    if (failure) fprintf(stderr, "%s:%s: %s\n", values[1], values[2], mosquitto_strerror(failure));
    mosquitto_destroy(client);
    mosquitto_lib_cleanup();
    return failure ? 1 : 0;
}
