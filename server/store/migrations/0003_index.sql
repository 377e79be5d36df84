CREATE TABLE `examples` (
	`index_id` text NOT NULL,
	`layer` text NOT NULL,
	`channel` integer NOT NULL,
	`kind` text NOT NULL,
	`rank` integer NOT NULL,
	`image` integer NOT NULL,
	`activation` real NOT NULL,
	`y` integer NOT NULL,
	`x` integer NOT NULL,
	`map` blob,
	`low` real,
	`high` real,
	PRIMARY KEY(`index_id`, `layer`, `channel`, `kind`, `rank`),
	FOREIGN KEY (`image`) REFERENCES `index_images`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `examples_by_image` ON `examples` (`image`);--> statement-breakpoint
CREATE TABLE `index_images` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`index_id` text NOT NULL,
	`number` integer NOT NULL,
	`name` text NOT NULL,
	`thumbnail` text,
	FOREIGN KEY (`index_id`) REFERENCES `indexes`(`id`) ON UPDATE no action ON DELETE cascade,
	FOREIGN KEY (`thumbnail`) REFERENCES `blobs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `index_images_by_number` ON `index_images` (`index_id`,`number`);--> statement-breakpoint
CREATE INDEX `index_images_by_thumbnail` ON `index_images` (`thumbnail`);--> statement-breakpoint
CREATE TABLE `indexes` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`model_name` text NOT NULL,
	`model_hash` text NOT NULL,
	`layers` text NOT NULL,
	`source` text NOT NULL,
	`set_hash` text NOT NULL,
	`images` integer NOT NULL,
	`done` integer DEFAULT 0 NOT NULL,
	`unreadable` integer DEFAULT 0 NOT NULL,
	`first_unreadable` text DEFAULT '[]' NOT NULL,
	`grids` text DEFAULT '{}' NOT NULL,
	`state` text NOT NULL,
	`error` text,
	`pid` integer,
	`seen_at` integer,
	`checkpoint` text,
	`created_at` integer NOT NULL,
	`finished_at` integer,
	FOREIGN KEY (`checkpoint`) REFERENCES `blobs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `indexes_id_unique` ON `indexes` (`id`);--> statement-breakpoint
CREATE INDEX `indexes_by_model` ON `indexes` (`model_hash`,`source`);--> statement-breakpoint
CREATE INDEX `indexes_by_checkpoint` ON `indexes` (`checkpoint`);--> statement-breakpoint
CREATE TABLE `units` (
	`index_id` text NOT NULL,
	`layer` text NOT NULL,
	`channel` integer NOT NULL,
	`mean` real NOT NULL,
	`deviation` real NOT NULL,
	`max` real NOT NULL,
	`density` real NOT NULL,
	`histogram` text NOT NULL,
	`label` text,
	`words` text NOT NULL,
	`similar` text NOT NULL,
	`opposite` text NOT NULL,
	`clarity` real,
	`polysemanticity` real,
	`redundancy` real,
	`x` real NOT NULL,
	`y` real NOT NULL,
	PRIMARY KEY(`index_id`, `layer`, `channel`),
	FOREIGN KEY (`index_id`) REFERENCES `indexes`(`id`) ON UPDATE no action ON DELETE cascade
);
